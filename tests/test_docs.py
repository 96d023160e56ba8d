"""The README and the docs cannot lie: commands parse, flags exist, paths are there."""

import re
import shlex
from pathlib import Path

import pytest

from bincount import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RECIPE = (ROOT / "docs" / "whole-bucket.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
VERBS = cli.parser()._subparsers._group_actions[0].choices


def commands() -> list[str]:
    """Every line of the README's and the recipe's shell blocks, comments removed."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", README + RECIPE, re.M | re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


# Every command of the README and of docs/whole-bucket.md: the test that runs what it runs, or the reason why none does.
PROMOTE_BY_HAND = '.venv/bin/bincount promote 3 --force --reason "its test bins were recorded wrong"'
CHECKED = {
    "make up": "tests/test_end_to_end.py",
    "make test": "is what runs this test",
    'make up ARGS="--source ../shared/abid --limit 400"': "needs the real bins; .ci/run does it with 200",
    'make up ARGS="--source s3://aft-vbi-pds --limit 2000"': "needs the network",
    'make up ARGS="--once"': "tests/test_end_to_end.py",
    "PATH=.venv/bin:$PATH MLFLOW_TRACKING_URI=http://127.0.0.1:5000 mlflow models serve "
    "-m models:/bincount@champion --env-manager local --port 5002": "tests/serving/test_model_server.py",
    "curl -s http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' "
    "--data @data/request.json": "tests/serving/test_model_server.py",
    ".venv/bin/bincount run --source ../shared/abid --limit 400": "needs the real bins; its steps are in tests/steps",
    ".venv/bin/bincount plan --source s3://aft-vbi-pds": "needs the network; as fetch, on a bucket at hand",
    ".venv/bin/bincount fetch --request NAME --index 0 --of 3": "tests/dataset/test_ingest_faults.py",
    ".venv/bin/bincount ingest --source s3://aft-vbi-pds": "needs the network; as fetch, on a bucket at hand",
    ".venv/bin/bincount prepare --run-id RUN --manifest DIGEST --index 0 --of 3": "tests/faults/test_at_once.py",
    ".venv/bin/bincount run --source s3://aft-vbi-pds --counts 0-5 --weights imagenet --max-epochs 10 "
    "--fine-tune-epochs 10": "needs the network and a GPU; its steps are in tests/steps",
    ".venv/bin/bincount predict photo.jpg": "tests/test_end_to_end.py",
    ".venv/bin/bincount evaluate --model models:/bincount@champion "
    "--source ../shared/abid": "tests/evaluate/test_evaluate_source.py",
    ".venv/bin/bincount doctor": "asks the network for weights and the bucket for 20 s",
    ".venv/bin/bincount clean": "tests/local/test_clean.py",
    ".venv/bin/bincount doctor --server": "tests/server/test_stack.py",
    "make server-up COMPOSE_PROFILES=sample": "tests/server/test_stack.py",
    "make backup": "tests/server/test_stack.py",
    "make restore FROM=backups/2026-11-22": "tests/server/test_stack.py",
    "make server-down": "tests/server/test_stack.py",
    "make server-test": "needs a Docker engine; is tests/server",
    ".venv/bin/bincount reconcile --records stock.csv --source s3://aft-vbi-pds --capacity 50 "
    "--out worklist": "tests/reconcile/test_reconcile.py",
    ".venv/bin/bincount outcomes import counts.csv --worklist worklist": "tests/outcomes/test_import_outcomes.py",
    ".venv/bin/bincount serve --port 5001": "tests/serving/test_follower.py",
    ".venv/bin/bincount promote 3": "tests/registry/test_promotion.py",
    PROMOTE_BY_HAND: "tests/registry/test_promotion.py",
    '.venv/bin/bincount reject 3 --reason "it saw no empty bins"': "tests/registry/test_promotion.py",
    '.venv/bin/bincount rollback --reason "it counts tape as items"': "tests/registry/test_promotion.py",
    ".venv/bin/bincount history": "tests/registry/test_promotion.py",
}


def test_every_command_is_run_by_a_test_or_says_why_not():
    assert set(commands()) == set(CHECKED)
    missing = [how for how in CHECKED.values() if how.startswith("tests/") and not (ROOT / how).is_file()]
    assert not missing


def test_the_readme_has_commands():
    assert any(line.startswith("make up") for line in commands())


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_is_in_the_readme_and_has_help(verb, capsys):
    assert f"bincount {verb}" in README
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    assert ended.value.code == 0
    assert "example: bincount" in capsys.readouterr().out


@pytest.mark.parametrize("line", [line for line in commands() if "bincount " in line and "make" not in line])
def test_every_bincount_command_parses(line):
    words = shlex.split(line.split("|")[0])
    words = words[next(place for place, word in enumerate(words) if word.endswith("bincount")) + 1 :]
    cli.parser().parse_args(words)


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("make ")])
def test_every_make_target_exists(line):
    target = shlex.split(line)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target
    for arguments in re.findall(r'ARGS="([^"]*)"', line):
        if target == "up":
            cli.parser().parse_args(["up", *shlex.split(arguments)])


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda page: page.name)
def test_every_path_named_exists(page):
    text = page.read_text()
    linked = {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
    missing = [link for link in linked if not (page.parent / link).exists()]
    quoted = set(re.findall(r"`((?:bincount|dags|tests|benchmarks|docs|mlruns)/[\w./-]+\.\w+)`", text))
    missing += [path for path in quoted if not (ROOT / path).exists()]
    assert not missing
