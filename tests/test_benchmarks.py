"""The code that benchmarks share: times, ratios, projections and the page of results."""

import argparse
import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import benchmarks.measure
from benchmarks.__main__ import QUESTIONS, page_of, run_alone
from benchmarks.growth import exponent_of, grows_steadily, projected
from benchmarks.measure import Ratio, bins_at, machine, paired, publish, run_process, spread, table_of
from benchmarks.stage import NEEDS
from bincount.cli import VERBS
from bincount.process.session_guard import session_members


def test_every_question_has_a_benchmark():
    assert all(importlib.util.find_spec(f"benchmarks.{name}") for name in QUESTIONS)


def test_a_stage_needs_what_its_verb_takes():
    taken = {verb.name: {each.name for each in verb.settings} for verb in VERBS}
    assert [
        f"{verb} takes no {need}" for verb, needs in NEEDS.items() for need in needs if need not in taken[verb]
    ] == []


def test_ratios_are_taken_repeat_by_repeat():
    ratio = Ratio.of("times as fast", paired([10, 30, 20], [5, 10, 20]), "1 or more")
    assert ratio == Ratio("times as fast", 2, 1, 3, "1 or more")
    assert table_of([ratio]).splitlines()[-1] == "| times as fast | **2.00** | 1.00 to 3.00 | 1 or more |"
    assert spread([3.0, 1.0, 2.0], ".0f") == "2 (1 to 3)"
    with pytest.raises(ValueError, match="shorter"):
        paired([1, 2], [1])


def test_exponents_and_projections():
    linear = {100: 1.0, 400: 4.0, 1600: 16.0}
    assert exponent_of(linear) == pytest.approx(1)
    assert exponent_of({100: 1.0, 200: 4.0}) == pytest.approx(2)
    assert projected(linear, 3200) == pytest.approx(32)
    assert projected({bins: 5.0 + seconds for bins, seconds in linear.items()}, 3200) == pytest.approx(37)
    assert projected({100: 3.0, 400: 2.0}, 800) == 2  # noise does not give negative projections
    assert grows_steadily({100: 5.0, 400: 8.0, 1600: 22.0})
    assert not grows_steadily({100: 5.0, 400: 4.0, 1600: 22.0})
    assert not grows_steadily({100: 5.0, 400: 8.0, 1600: 8.1}), "it stops growing"


def test_a_process_is_timed_with_its_memory_and_a_failure_is_reported():
    code = "block = b'x' * 80_000_000; print(len(block))"
    spent, output = run_process([sys.executable, "-c", code])
    assert output == "80000000\n"
    assert spent.peak_mb > 80
    assert spent.cpu_s > 0
    assert 0 < spent.wall_s < 60
    with pytest.raises(SystemExit, match="out of luck"):
        run_process([sys.executable, "-c", "raise ValueError('out of luck')"])


def test_the_page_says_where_and_when_and_what_was_not_run(tmp_path, capsys):
    options = argparse.Namespace(quick=False, json=tmp_path / "search.json")
    ratio, here = Ratio.of("times faster", [100.0]), machine()
    publish(options, [ratio], "| made | of |", {"wall_s": 1}, here)
    assert "times faster" in capsys.readouterr().out
    written = json.loads(options.json.read_text())
    assert written["ratios"] == [asdict(ratio)]
    assert written["measured"] == {"wall_s": 1}
    page = page_of(tmp_path)
    assert all(question in page for question in QUESTIONS.values())
    assert f"commit {here['commit']}" in page
    assert f"{here['cores']} cores" in page
    assert "| times faster | **100** |  |  |" in page
    assert page.count("No stored result.") == len(QUESTIONS) - 1


def test_a_benchmark_leaves_no_process_and_no_file(tmp_path):
    told = tmp_path / "told"
    code = (
        "import os, pathlib, subprocess, sys, tempfile;"
        "subprocess.Popen(['sleep', '100']);"
        f"pathlib.Path({str(told)!r}).write_text(f'{{os.getsid(0)}} {{tempfile.mkdtemp()}}');"
        "sys.exit(3)"
    )
    assert run_alone([sys.executable, "-c", code]) == 3
    session, folder = told.read_text().split()
    assert session_members(int(session)) == []
    assert not Path(folder).exists()


def test_bins_are_those_named_or_rendered_where_the_usual_ones_are_missing(tmp_path, monkeypatch):
    (tmp_path / "mine" / "bin-images").mkdir(parents=True)
    here = {}
    with bins_at(tmp_path / "mine", 5, here) as found:
        assert found == (tmp_path / "mine").resolve()
    assert not here
    with pytest.raises(SystemExit, match="must hold bins, got none"), bins_at(tmp_path / "typo", 5, here):
        pass
    monkeypatch.setattr(benchmarks.measure, "SMALL", tmp_path / "absent")
    with bins_at(tmp_path / "absent", 5, here) as found:
        assert len([*(found / "bin-images").glob("*.jpg")]) == 6
        assert here == {"rendered": True}
    assert not found.exists()
