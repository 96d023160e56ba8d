"""The `bincount` command: one verb a step, JSON on stdout, log on stderr."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from bincount.config import (
    CHAMPION_URI,
    ChainConfig,
    CostsConfig,
    FetchConfig,
    IngestConfig,
    NetworkConfig,
    ReconcileConfig,
    SearchConfig,
    TrainConfig,
    UpConfig,
)
from bincount.errors import BincountError, DataError
from bincount.files import explain_disk_errors
from bincount.local.clean import add_clean_arguments, clean
from bincount.local.stack import PORT_FLAGS, add_port_arguments
from bincount.local.up import up
from bincount.process.subprocess_runner import EXIT_CODES
from bincount.schema import Setting, settings_of
from bincount.serving.serve import add_serve_arguments, serve
from bincount.settings import Settings
from bincount.store.workspace import log_usage

_T = TypeVar("_T")

_RUN_ID = Setting(name="run_id", metavar="RUN", help="the MLflow run, as `bincount ingest` prints it")
_FEATURES = Setting(name="features", metavar="KEY", help="the features, as `bincount prepare` prints them")
_SHARE = Setting(name="share", default="1/1", metavar="I/N", help="which share of the work, such as 1/3")
_REASON = Setting(
    name="reason", default=None, nullable=True, metavar="TEXT", unset="none", help="the reason, kept in the history"
)
_ACTOR = Setting(
    name="actor", default=None, nullable=True, metavar="NAME", unset="the user that runs this", help="who does it"
)
_ATTEMPT = Setting(
    name="attempt",
    default=None,
    nullable=True,
    metavar="NAME",
    unset="a new one",
    help="name by which a retry finds its MLflow run",
)
_VERSION = Setting(name="model_version", metavar="VERSION", help="the version of the registered model, such as 3")
_TIMEOUT = Setting(name="timeout_s", type=float, default=180.0, metavar="S", help="most seconds to wait for an answer")
_MODEL = Setting(name="model", default=CHAMPION_URI, metavar="URI", help="the model's MLflow URI")


def _optional(name: str, help: str, unset: str, metavar: str, type: type = str) -> Setting:
    return Setting(name=name, type=type, default=None, nullable=True, help=help, unset=unset, metavar=metavar)


@dataclass(frozen=True)
class Verb:
    """One verb of the command line that calls one function.

    Attributes:
        stage: Under which heading the help lists it.
        name: Such as "check-serving".
        purpose: What it does, in a sentence.
        target: The function, as "module:name" below `bincount`; it takes the
            settings of this machine and the flags as keyword arguments.
        settings: Its flags.
        example: A command that works.
    """

    stage: str
    name: str
    purpose: str
    target: str
    settings: tuple[Setting, ...]
    example: str


VERBS = (
    Verb(
        "data",
        "plan",
        "Read metadata and decide which shards an ingest will fetch.",
        "dataset.plan:plan",
        settings_of(IngestConfig),
        "bincount plan --source s3://aft-vbi-pds",
    ),
    Verb(
        "data",
        "fetch",
        "Fetch one worker's share of a plan; `bincount ingest` with the plan's flags then joins all shares.",
        "dataset.fetch:fetch",
        (
            Setting(name="plan", metavar="NAME", help="the plan, as `bincount plan` prints it"),
            _SHARE,
            *settings_of(FetchConfig),
        ),
        "bincount fetch --plan NAME --share 1/3",
    ),
    Verb(
        "data",
        "ingest",
        "Fetch bins from a bucket into shards and a manifest.",
        "dataset.ingest:ingest",
        (*settings_of(IngestConfig), _ATTEMPT),
        "bincount ingest --source s3://aft-vbi-pds --limit 400",
    ),
    Verb(
        "learning",
        "prepare",
        "Compute the backbone's features of a manifest's photos once, or one worker's share of them.",
        "learn.prepare:prepare",
        (
            _RUN_ID,
            Setting(name="manifest", metavar="DIGEST", help="the manifest, as `bincount ingest` prints it"),
            *settings_of(NetworkConfig),
            _SHARE,
        ),
        "bincount prepare --run-id RUN --manifest DIGEST",
    ),
    Verb(
        "learning",
        "tune",
        "Search learning rate, batch size and epochs with KerasTuner.",
        "learn.tune:tune",
        (_RUN_ID, _FEATURES, *settings_of(SearchConfig)),
        "bincount tune --run-id RUN --features KEY --trials 5",
    ),
    Verb(
        "learning",
        "train",
        "Train the best head and save the whole model.",
        "learn.train:train",
        (_RUN_ID, _FEATURES, *settings_of(TrainConfig)),
        "bincount train --run-id RUN --features KEY",
    ),
    Verb(
        "learning",
        "evaluate",
        "Score a run's model on its test part, or any registered model on any bins.",
        "evaluate.evaluate:evaluate",
        (
            _optional("run_id", "the MLflow run whose model is scored on its own test part", "none", "RUN"),
            _optional("model", "instead: a registered model, such as models:/bincount/3", "none", "URI"),
            _optional("source", "with --model: where the bins are", "none", "SOURCE"),
            _optional("ids", "with --model: which bins", "all of the source", "FILE|A-B"),
            _optional("counts", "with --model: only bins with these counts", "all that the model knows", "COUNTS"),
            _optional("limit", "with --model: how many bins to draw", "all", "N", int),
        ),
        f"bincount evaluate --model {CHAMPION_URI} --source ../shared/abid",
    ),
    Verb(
        "registry",
        "register",
        "Register a run's model with MLflow.",
        "registry.register:register",
        (_RUN_ID,),
        "bincount register --run-id RUN",
    ),
    Verb(
        "registry",
        "gate",
        "Decide whether a version may become champion.",
        "registry.gate:gate",
        (_VERSION,),
        "bincount gate 3",
    ),
    Verb(
        "registry",
        "check-serving",
        "Start a version as it will be served, compare its answers on golden bins, and stop it.",
        "registry.serving_check:check_serving",
        (_VERSION, _TIMEOUT),
        "bincount check-serving 3",
    ),
    Verb(
        "registry",
        "promote",
        "Make a version the champion, if the gate accepts it and it can be served.",
        "registry.promotion:promote",
        (
            _VERSION,
            Setting(name="force", type=bool, default=False, help="skip gate and serving check; needs --reason"),
            _REASON,
            _ACTOR,
            _optional("expected_champion", "only if this version, or none, is the champion", "any", "VERSION|none"),
        ),
        'bincount promote 3 --force --reason "the gate judged by bins that were relabelled"',
    ),
    Verb(
        "registry",
        "verify-serving",
        "Wait until the running model server answers as the version does.",
        "registry.serving_check:verify_serving",
        (_VERSION, _TIMEOUT),
        "bincount verify-serving 3",
    ),
    Verb(
        "registry",
        "reject",
        "Keep a version from becoming champion.",
        "registry.promotion:reject",
        (_VERSION, _REASON, _ACTOR),
        'bincount reject 3 --reason "it saw no empty bins"',
    ),
    Verb(
        "registry",
        "rollback",
        "Go back to the champion before, or to an earlier one.",
        "registry.promotion:rollback",
        (_optional("model_version", "an earlier champion", "the one before", "VERSION"), _REASON, _ACTOR),
        'bincount rollback --reason "it counts tape as items"',
    ),
    Verb(
        "registry",
        "history",
        "List who was champion when, and why.",
        "registry.promotion:history",
        (),
        "bincount history",
    ),
    Verb(
        "inventory",
        "reconcile",
        "Compare inventory records with photos and list the bins to count first.",
        "reconcile.reconcile:reconcile",
        (
            *settings_of(ReconcileConfig),
            _optional("out", "folder for worklist, summary and report", "worklist, or the run's with --track", "DIR"),
            Setting(name="track", type=bool, default=False, help="log worklist, report and figures to an MLflow run"),
            _ATTEMPT,
        ),
        "bincount reconcile --records stock.csv --source s3://aft-vbi-pds --capacity 50 --out worklist",
    ),
)
"""The verbs that are steps of a DAG, or could be."""

_STAGES = {
    "data": "data",
    "learning": "learning",
    "registry": "registry and champion",
    "serving": "predictions",
    "inventory": "inventory records",
    "whole": "the whole chain and this machine",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one verb and exits: 0, 1 for the unexpected, or a code of `EXIT_CODES`."""
    args = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # unwinds, so that clean-up is done
    try:
        status = args.run(args)
    except BincountError as error:
        print(f"bincount {args.verb}: {error}", file=sys.stderr)
        sys.exit(_exit_code_of(type(error)))
    except KeyboardInterrupt:
        print(f"bincount {args.verb}: stopped.", file=sys.stderr)
        _end_at_once(130)
    except SystemExit as ended:
        if ended.code == 128 + signal.SIGTERM:
            _end_at_once(128 + signal.SIGTERM)
        raise
    sys.exit(status)


def _exit_code_of(error: type[BincountError]) -> int:
    return next((code for code, kind in EXIT_CODES.items() if issubclass(error, kind)), 1)


def _end_at_once(status: int) -> NoReturn:
    """Ends the process without waiting for threads, which may be in a request that nobody answers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def parser() -> argparse.ArgumentParser:
    """The parser of all verbs; its help lists them by stage."""
    whole = argparse.ArgumentParser(
        prog="bincount",
        usage="bincount VERB [flags]",
        description="Count the items in warehouse bins from photos. `bincount VERB --help` explains a verb's flags.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = whole.add_subparsers(dest="verb", required=True, prog="bincount", metavar="VERB", help=argparse.SUPPRESS)
    listed: dict[str, list[tuple[str, str]]] = {stage: [] for stage in _STAGES}

    def add(stage: str, name: str, purpose: str, example: str) -> argparse.ArgumentParser:
        listed[stage].append((name, purpose))
        return verbs.add_parser(name, description=purpose, epilog=f"example: {example}")

    for verb in VERBS:
        step = add(verb.stage, verb.name, verb.purpose, verb.example)
        add_settings(step, verb.settings)
        step.set_defaults(run=_run_of(verb.target))

    what, example = (
        "Import counts of bins, and report how many wrong records they found.",
        "bincount outcomes import counts.csv",
    )
    outcomes = add("inventory", "outcomes", what, example).add_subparsers(required=True, metavar="import")
    imported = outcomes.add_parser("import", help=what, description=what, epilog=f"example: {example}")
    imported.add_argument("file", metavar="FILE", help="CSV or parquet with id, counted, when and by")
    what = "folder that reconcile wrote; with --track, the MLflow run of a reconciliation"
    folder = Setting(name="worklist", default=None, nullable=True, metavar="DIR", unset="worklist", help=what)
    what = "take a file from the workspace's folder records, and log to the MLflow run of the last reconciliation"
    track = Setting(name="track", type=bool, default=False, help=what)
    add_settings(imported, (folder, track, *settings_of(CostsConfig)))
    imported.set_defaults(run=_run_of("outcomes.import_outcomes:import_outcomes"))

    example = "bincount up --once"
    up_verb = add("whole", "up", "Run the chain once here, and keep its UIs and the model server up.", example)
    add_settings(up_verb, settings_of(UpConfig))
    up_verb.add_argument("--once", action="store_true", help="end when the DAG's run has ended")
    add_port_arguments(up_verb)
    up_verb.set_defaults(run=up)

    example = "bincount run --source ../shared/abid --limit 400"
    run = add("whole", "run", "Run the whole chain here, without Airflow.", example)
    add_settings(run, settings_of(ChainConfig))
    run.set_defaults(run=_run_chain)

    predict = add(
        "serving", "predict", "Count the items in photos with a registered model.", "bincount predict bin.jpg"
    )
    predict.add_argument("files", nargs="+", metavar="FILE", help="JPEG or PNG photos")
    add_settings(predict, (_MODEL,))
    predict.set_defaults(run=_predict)

    serving = add("serving", "serve", "Serve the champion, and each later one without a pause.", "bincount serve")
    add_serve_arguments(serving)
    serving.set_defaults(run=serve)

    compared = add(
        "serving",
        "compare-served",
        "Compare the versions that answered the same requests, from the log of `bincount serve`.",
        "bincount compare-served served",
    )
    compared.add_argument("folder", metavar="DIR", help="folder of `bincount serve --log`")
    compared.add_argument("--json", action="store_true", help="print JSON in place of tables")
    compared.set_defaults(run=_compare_served)

    doctor = add(
        "whole", "doctor", "Check what is missing on this machine, and say what to do about it.", "bincount doctor"
    )
    doctor.add_argument("--server", action="store_true", help="check the stack of docker-compose.yml instead")
    add_port_arguments(doctor)
    doctor.set_defaults(run=_doctor)

    cleaning = add("whole", "clean", "List what takes disk space, and free what nothing needs.", "bincount clean --yes")
    add_clean_arguments(cleaning)
    cleaning.set_defaults(run=clean)

    whole.epilog = "\n\n".join(
        f"{title}:\n" + "\n".join(f"  {name:<16}{purpose}" for name, purpose in listed[stage])
        for stage, title in _STAGES.items()
    )
    return whole


def add_settings(parser: argparse.ArgumentParser, settings: Iterable[Setting]) -> None:
    """Adds a flag for each setting; a version can be named without its flag too."""
    for each in settings:
        if each.name == "model_version":
            # People write `promote 3`, tasks `promote --model-version=3`.
            either = parser.add_mutually_exclusive_group(required=each.is_required)
            either.add_argument(
                "model_version", nargs="?", default=argparse.SUPPRESS, metavar=each.metavar, help=each.help
            )
            either.add_argument(each.flag, default=argparse.SUPPRESS, metavar=each.metavar, help="the same")
        elif each.type is bool:
            parser.add_argument(each.flag, action="store_true", help=each.help)
        else:
            parser.add_argument(
                each.flag,
                type=each.type,
                required=each.is_required,
                default=None if each.is_required else each.default,
                choices=each.choices or None,
                metavar=None if each.choices else each.metavar or each.name.upper(),
                help=_help_of(each),
            )


def _help_of(setting: Setting) -> str:
    if setting.is_required:
        return setting.help
    default = setting.unset if setting.default is None else setting.default
    if isinstance(default, float):
        default = f"{default:g}"
    return f"{setting.help} (default: {default})".replace("%", "%%")


def _run_of(target: str) -> Callable[[argparse.Namespace], None]:
    def run(args: argparse.Namespace) -> None:
        module, _, name = target.partition(":")
        step = getattr(importlib.import_module(f"bincount.{module}"), name)
        settings = Settings.from_env()
        options = _options(args, settings)
        run_id = options.get("run_id")
        with _marking_failed(settings, run_id) if run_id else nullcontext():
            _print_answer(lambda: step(settings, **options))

    return run


def _marking_failed(settings: Settings, run_id: str) -> AbstractContextManager[None]:
    """Lets MLflow's UI show that a step of the run did not reach its end."""
    from bincount.tracking import runs

    return runs.marking_failed(settings, run_id)


def _run_chain(args: argparse.Namespace) -> None:
    from bincount.chain import run_chain

    settings = Settings.from_env()
    _print_answer(lambda: run_chain(settings, ChainConfig(**_options(args, settings))))


def _predict(args: argparse.Namespace) -> int:
    """Prints an entry a file; the exit code of a `DataError` if a file got no answer, else 0."""
    from bincount.evaluate.predict import predict

    settings = Settings.from_env()
    answer = _print_answer(lambda: predict(settings, **_options(args, settings)))
    return _exit_code_of(DataError) if any("error" in entry for entry in answer["predictions"]) else 0


def _compare_served(args: argparse.Namespace) -> None:
    from bincount.evaluate.served_comparison import compare_served, to_text

    if args.json:
        _print_answer(lambda: compare_served(Path(args.folder)))
    else:
        print(to_text(compare_served(Path(args.folder))))


def _doctor(args: argparse.Namespace) -> int:
    """Prints the findings; 0 if all that is needed is there, else 1."""
    if args.server:
        from bincount.server.doctor import check_server

        findings = check_server()
    else:
        from bincount.local.doctor import check_machine

        ports = {name: getattr(args, f"{name}_port") for name in PORT_FLAGS}
        findings = check_machine(Settings.from_env(), ports)
    _print_answer(lambda: [asdict(finding) for finding in findings])
    return 0 if all(finding.ok or not finding.needed for finding in findings) else 1


def _options(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """The flags as keyword arguments; the source "sample" becomes the folder of the sample bins."""
    options = {name: value for name, value in vars(args).items() if name not in ("verb", "run")}
    if options.get("source") == "sample":
        from bincount.local.sample.render import sample_folder

        options["source"] = str(sample_folder(settings))
    return options


def _print_answer(work: Callable[[], _T]) -> _T:
    """Prints what `work` returns as JSON, and nothing that libraries say on the way: stdout is for the answer."""
    with redirect_stdout(sys.stderr), explain_disk_errors(Settings.from_env().workspace):
        try:
            answer = work()
        finally:
            log_usage()
    text = json.dumps(answer, indent=2, ensure_ascii=False)
    print(text.encode(errors="backslashreplace").decode())  # a name of a file may not be UTF-8: JSON's own escape
    return answer
