"""Writes docs/settings.md from the schema of settings in `bincount.config` and `bincount.settings`.

python docs/write_settings.py     writes the page
tests/test_settings_schema.py     fails when the page is not the schema's
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from bincount.config import (
    AirflowConfig,
    ApprovalConfig,
    BinsConfig,
    DecayLimits,
    DriftLimits,
    FetchConfig,
    FormConfig,
    GateLimits,
    IngestConfig,
    NetworkConfig,
    OutcomesConfig,
    ReconcileConfig,
    SearchConfig,
    TrainConfig,
)
from bincount.schema import Setting, settings_of
from bincount.settings import Settings

PAGE = Path(__file__).with_name("settings.md")

SECTIONS = (
    (
        "Bins",
        BinsConfig,
        "`bincount run`, `ingest`, `plan`; the form of `train_bin_counter`. `bincount up` takes `source` (default: "
        "`sample`), `limit` and `seed`; `prepare`, `tune` and `train` take `seed`.",
    ),
    ("Fetching", FetchConfig, "`bincount ingest`, `plan`, `fetch`."),
    ("Which ids", IngestConfig, "`bincount ingest`, `plan`."),
    ("Network", NetworkConfig, "`bincount run`, `prepare`; the form of `train_bin_counter`."),
    (
        "Search",
        SearchConfig,
        "`bincount run`, `tune`; the form of `train_bin_counter`. `train` takes `fine_tune_epochs` and `loss_mix` too.",
    ),
    ("Training", TrainConfig, "`bincount run`, `train`; the form of `train_bin_counter`."),
    ("Workers", FormConfig, "The form of `train_bin_counter`; `bincount up`."),
    ("Approval", ApprovalConfig, "The form of `train_bin_counter`."),
    (
        "Reconciling",
        ReconcileConfig,
        "`bincount reconcile`; the form of `reconcile_inventory`. Both take `source` too: where the photos are.",
    ),
    (
        "Importing counts",
        OutcomesConfig,
        "The form of `import_outcomes`, with `count_cost` and `miss_cost`. On the command line: `bincount outcomes "
        "import FILE --worklist DIR`.",
    ),
    ("Gate", GateLimits, "`BINCOUNT_GATE`, a JSON object with some of these."),
    (
        "Drift",
        DriftLimits,
        "`BINCOUNT_DRIFT`, a JSON object with some of these: the largest population stability index.",
    ),
    (
        "Decay",
        DecayLimits,
        "`BINCOUNT_DECAY`, a JSON object with some of these: the p-value below which outcomes are a decay.",
    ),
)


def page() -> str:
    """The whole page as Markdown; a setting that several schemas share is listed once."""
    parts = [
        "# Settings",
        "This page is written by `python docs/write_settings.py` from `bincount/config.py` and `bincount/settings.py`. "
        "On the command line a setting is its name with dashes (`image_px`: `--image-px`), in a DAG's form its name. "
        "A setting that several commands take is listed once. Flags of a single command, such as those of `bincount "
        "serve`, are in its `--help`.",
        "## Environment",
        "Operators set these for every process.",
        _table(("variable", "meaning"), [(f"`{env}`", text) for env, text in _environment()]),
        "## Airflow",
        "Operators set these in section `[bincount]` of Airflow's configuration, or as `AIRFLOW__BINCOUNT__` and the "
        "name in capitals. All but the queue are JSON.",
        _table(
            ("setting", "default", "meaning"),
            [(f"`{each.name}`", _default(each), each.help) for each in settings_of(AirflowConfig)],
        ),
    ]
    listed: set[str] = set()
    for title, schema, where in SECTIONS:
        fresh = [each for each in settings_of(schema) if each.name not in listed or title in ("Gate", "Drift", "Decay")]
        if not fresh:  # all of them are listed above
            continue
        listed |= {each.name for each in fresh}
        rows = [(f"`{each.name}`", _default(each), each.rule, _meaning(each)) for each in fresh]
        parts += [f"## {title}", where, _table(("setting", "default", "value", "meaning"), rows)]
    return "\n\n".join(parts) + "\n"


def _environment() -> list[tuple[str, str]]:
    facts = [each.metadata["setting"] for each in fields(Settings) if "setting" in each.metadata]
    return [(each["env"], each["help"]) for each in facts]


def _meaning(setting: Setting) -> str:
    return f"{setting.help}. In the form: {setting.form_help}" if setting.form_help else setting.help


def _default(setting: Setting) -> str:
    if setting.is_required:
        return "required"
    return setting.unset if setting.default is None else f"`{setting.default}`"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page())
