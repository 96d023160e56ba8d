"""The README and the docs cannot lie: commands parse and are run by a named test, flags exist, paths are there."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from bincount import cli

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("operate", "reconcile", "serve", "learn"))]
GUIDES += [ROOT / "docs" / "whole-bucket.md"]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FOLDERS = {"bincount", "dags", "tests", "benchmarks", "docs", "mlruns"}
VERBS = re.findall(r"^  ([a-z-]+) ", cli.parser().epilog, re.M)


def commands() -> list[str]:
    """Every line of the guides' shell blocks, comments removed, and every command quoted in the README."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", "\n".join(map(Path.read_text, GUIDES)), re.M | re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`((?:\.venv/bin/bincount|make) [^`\n]+)`", GUIDES[0].read_text())
    return [line for line in lines if line and not line.startswith("#")]


END_TO_END = "tests/test_end_to_end.py::test_bins_in_a_bucket_become_a_served_prediction"
ANSWER = "tests/serving/test_model_server.py::test_the_answer_has_the_promised_form"
STACK = "tests/server/test_stack.py"
PROMOTION = "tests/registry/test_promotion.py"
BY_FETCH = "needs the network; as fetch, on a bucket at hand"

# Every command of the guides: the test that runs what it runs, or the reason why none does.
CHECKED = {
    "make up": END_TO_END,
    "make test": "is what runs this test",
    'make up ARGS="--once"': END_TO_END,
    ".venv/bin/bincount run --source ../shared/abid-224 --fine-tune-epochs 6": "needs the real bins and an hour",
    ".venv/bin/bincount run --source ../shared/abid-224": "needs the real bins; .ci/run does it in make up with 200",
    'make up ARGS="--source ../shared/abid --limit 400"': "needs the real bins; .ci/run does it with 200",
    'make up ARGS="--source s3://aft-vbi-pds --limit 2000"': "needs the network",
    "PATH=.venv/bin:$PATH MLFLOW_TRACKING_URI=http://127.0.0.1:5000 mlflow models serve "
    "-m models:/bincount@champion --env-manager local --port 5002": ANSWER,
    "curl -s http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' --data @data/request.json": ANSWER,
    ".venv/bin/bincount --help": "tests/test_docs.py::test_the_help_lists_every_verb_by_stage",
    ".venv/bin/bincount run --source ../shared/abid --limit 400": "needs the real bins; .ci/run does it in make up",
    ".venv/bin/bincount plan --source s3://aft-vbi-pds": BY_FETCH,
    ".venv/bin/bincount fetch --plan NAME --share 1/3": (
        "tests/dataset/test_ingest_faults.py::test_shares_fetched_at_once_give_the_manifest_of_one"
    ),
    ".venv/bin/bincount ingest --source s3://aft-vbi-pds": BY_FETCH,
    ".venv/bin/bincount prepare --run-id RUN --manifest DIGEST --share 1/3": (
        "tests/faults/test_at_once.py::test_shares_of_an_extraction_one_of_them_killed"
    ),
    ".venv/bin/bincount run --source s3://aft-vbi-pds --counts 0-5 --weights imagenet --max-epochs 10 "
    "--fine-tune-epochs 10": "needs the network and a GPU",
    ".venv/bin/bincount evaluate --model models:/bincount@champion --source ../shared/abid": (
        "tests/evaluate/test_evaluate_source.py::test_every_bin_is_judged_once_beside_its_baselines"
    ),
    ".venv/bin/bincount predict photo.jpg": END_TO_END,
    ".venv/bin/bincount doctor": "asks the network for weights and the bucket for 20 s",
    ".venv/bin/bincount clean": "tests/local/test_clean.py::test_it_only_shows_until_it_is_told",
    ".venv/bin/bincount doctor --server": f"{STACK}::test_doctor_finds_nothing",
    "make server-up COMPOSE_PROFILES=sample": f"{STACK}::test_all_services_are_healthy",
    "make backup": f"{STACK}::test_a_restored_backup_serves_the_same_champion",
    "make restore FROM=backups/2026-11-22": f"{STACK}::test_a_restored_backup_serves_the_same_champion",
    "make server-down": f"{STACK}::test_a_restored_backup_serves_the_same_champion",
    "make server-test": "needs a Docker engine; runs the tests of the stack",
    ".venv/bin/bincount reconcile --records stock.csv --source s3://aft-vbi-pds --capacity 50 --out worklist": (
        "tests/reconcile/test_reconcile.py::test_every_bin_is_listed_worst_first"
    ),
    ".venv/bin/bincount outcomes import counts.csv": (
        "tests/outcomes/test_import_outcomes.py::test_what_counting_every_bin_found"
    ),
    ".venv/bin/bincount outcomes import counts.csv --worklist worklist": (
        "tests/outcomes/test_import_outcomes.py::test_what_counting_every_bin_found"
    ),
    ".venv/bin/bincount serve --port 5001": (
        "tests/serving/test_follower.py::test_the_first_champion_is_waited_for_and_sigterm_drains"
    ),
    ".venv/bin/bincount serve --log served": (
        "tests/serving/test_shadow.py::test_a_challenger_answers_in_the_background_and_can_be_killed"
    ),
    ".venv/bin/bincount serve --log served --shadow challenger": (
        "tests/serving/test_shadow.py::test_a_challenger_answers_in_the_background_and_can_be_killed"
    ),
    ".venv/bin/bincount compare-served served": ("tests/evaluate/test_served_comparison.py::test_people_get_tables"),
    ".venv/bin/bincount promote 3": f"{PROMOTION}::test_a_version_is_promoted_with_who_and_why",
    '.venv/bin/bincount promote 3 --force --reason "its test bins were recorded wrong"': (
        f"{PROMOTION}::test_force_overrules_the_gate_and_says_why"
    ),
    '.venv/bin/bincount reject 3 --reason "it saw no empty bins"': (
        f"{PROMOTION}::test_a_rejected_version_stays_out_until_the_champion_changes"
    ),
    '.venv/bin/bincount rollback --reason "it counts tape as items"': (
        f"{PROMOTION}::test_a_rollback_takes_seconds_and_stays"
    ),
    ".venv/bin/bincount history": f"{PROMOTION}::test_a_version_is_promoted_with_who_and_why",
}


def is_test(named: str) -> bool:
    """Whether "FILE::TEST" names a function that pytest collects."""
    path, _, name = named.partition("::")
    file = ROOT / path
    if not (file.is_file() and file.name.startswith("test_") and name.startswith("test_")):
        return False
    return name in {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}


def unchecked(named: list[str], checked: dict[str, str]) -> list[str]:
    """Commands without a test that exists or a reason, and entries for commands that no guide shows."""
    wrong = [f"{line}: no guide shows it" for line in checked.keys() - set(named)]
    wrong += [f"{line}: must have a test or a reason" for line in set(named) - checked.keys()]
    wrong += [f"{line}: {how} must be a test" for line, how in checked.items() if "tests/" in how and not is_test(how)]
    return sorted(wrong)


def test_every_command_is_run_by_a_test_or_says_why_not():
    assert unchecked(commands(), CHECKED) == []


def test_a_command_without_an_entry_is_noticed():
    for line in CHECKED:
        others = {name: how for name, how in CHECKED.items() if name != line}
        assert unchecked(commands(), others) == [f"{line}: must have a test or a reason"]
    assert unchecked(["make up"], CHECKED)


@pytest.mark.parametrize(
    "how",
    [
        "tests/test_docs.py::test_that_is_gone",
        "tests/test_docs.py::is_test",
        "tests/test_docs.py",
        "tests/test_gone.py::test_x",
        "tests/bins.py::write_bin",
    ],
)
def test_a_test_that_does_not_exist_is_noticed(how):
    here = "tests/test_docs.py::test_a_test_that_does_not_exist_is_noticed"
    assert unchecked(["make up", "make test"], {"make up": here, "make test": "is what runs this test"}) == []
    assert unchecked(["make up"], {"make up": how}) == [f"make up: {how} must be a test"]


def test_the_readme_fits_its_bounds():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    assert any(line.startswith("make up") for line in lines[:30])


def test_the_help_lists_every_verb_by_stage(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert [verb.name for verb in cli.VERBS if not re.search(rf"^  {verb.name} ", shown, re.M)] == []
    assert {"up", "run", "predict", "serve", "doctor", "clean", "outcomes"} <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_in_a_guide_and_has_help(verb, capsys):
    assert any(f"bincount {verb}" in page.read_text() for page in GUIDES)
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    assert ended.value.code == 0
    assert "example: bincount" in capsys.readouterr().out


@pytest.mark.parametrize("line", [line for line in commands() if "bincount " in line and "make" not in line])
def test_every_bincount_command_parses(line):
    words = shlex.split(line.split("|")[0])
    words = words[next(place for place, word in enumerate(words) if word.endswith("bincount")) + 1 :]
    if words != ["--help"]:
        cli.parser().parse_args(words)


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("make ")])
def test_every_make_target_exists(line):
    target = shlex.split(line)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target
    for arguments in re.findall(r'ARGS="([^"]*)"', line):
        if target == "up":
            cli.parser().parse_args(["up", *shlex.split(arguments)])


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings, and those that the page names itself."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    named = set(re.findall(r'<a id="([^"]+)">', page.read_text()))
    return named | {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def broken_references(page: Path) -> list[str]:
    """Links of a page that lead nowhere, and names of source files and tests that do not exist."""
    text = page.read_text()
    broken = []
    for link in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" not in link and not (target.exists() and (not anchor or anchor in anchors_of(target))):
            broken.append(link)
    for path, _, test in re.findall(
        r"(?<![\w./-])(\w+/[\w./-]*\.\w+)(::(\w+))?", " ".join(re.findall(r"`[^`\n]+`", text))
    ):
        ours = path.endswith(".py") or path.partition("/")[0] in FOLDERS
        exists = (ROOT / path).exists() or (ROOT / "bincount" / path).exists()
        if (ours and not exists) or (test and not is_test(f"{path}::{test}")):
            broken.append(path)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_every_path_named_exists(page):
    assert broken_references(page) == []


def test_the_check_of_references_bites(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# The gate\n[here](#the-gate) [gone](gone.md) [no heading](#a-gate) `serving/serve.py` "
        "`pytest serving/gone.py` `tests/test_docs.py::test_gone` `bincount/gone.py` `tests/gone.py` `data/gone.json`"
    )
    gone = ["gone.md", "#a-gate", "serving/gone.py", "tests/test_docs.py", "bincount/gone.py", "tests/gone.py"]
    assert broken_references(page) == gone
