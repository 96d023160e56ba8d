"""The README and the docs cannot lie: commands parse, flags exist, paths are there."""

import re
import shlex
from pathlib import Path

import pytest

from bincount import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
VERBS = cli._parser()._subparsers._group_actions[0].choices


def commands() -> list[str]:
    """Every line of the README's shell blocks, comments removed."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", README, re.M | re.S)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


# Run by no test as they stand, each with the reason.
NOT_RUN = {
    "make up": "runs until Ctrl-C; tests/test_end_to_end.py and CI run it with --once",
    "make test": "is what runs this test",
}


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
    cli._parser().parse_args(words)


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("make ")])
def test_every_make_target_exists(line):
    target = shlex.split(line)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), target
    for arguments in re.findall(r'ARGS="([^"]*)"', line):
        if target == "up":
            cli._parser().parse_args(["up", *shlex.split(arguments)])


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda page: page.name)
def test_every_path_named_exists(page):
    text = page.read_text()
    linked = {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
    missing = [link for link in linked if not (page.parent / link).exists()]
    quoted = set(re.findall(r"`((?:bincount|dags|tests|benchmarks|docs|mlruns)/[\w./-]+\.\w+)`", text))
    missing += [path for path in quoted if not (ROOT / path).exists()]
    assert not missing
