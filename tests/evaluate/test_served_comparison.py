"""`bincount compare-served`: figures of a log that are computed by hand."""

import json
from datetime import UTC, datetime

import pyarrow
import pytest
from pyarrow import parquet

from bincount import cli
from bincount.evaluate.served_log import SCHEMA, SERVED, SHADOW, shadowed_photos


def row(request, number, role, version, count, verdict=None, *, digest=None, status=200, latency_ms=10.0):
    return {
        **dict.fromkeys(SCHEMA.names),
        "time": datetime.now(UTC),
        "request": request,
        "row": number,
        "role": role,
        "version": version,
        "digest": digest or f"{request}{number}",
        "status": status,
        "latency_ms": latency_ms,
        "count": count,
        "probabilities": {},
        "verdict": verdict,
    }


ROWS = [
    # request a: two photos, the second counted one more; b: one photo, two fewer, another verdict
    row("a", 0, SERVED, "9", 3, "match", latency_ms=10),
    row("a", 1, SERVED, "9", 3, latency_ms=10),
    row("a", 0, SHADOW, "10", 3, "match", latency_ms=20),
    row("a", 1, SHADOW, "10", 4, latency_ms=20),
    row("b", 0, SERVED, "9", 5, "match", latency_ms=30),
    row("b", 0, SHADOW, "10", 3, "mismatch", latency_ms=60),
    # c: the shadow fails; d: it is dropped; e: the photo of a again
    row("c", 0, SERVED, "9", 2),
    row("c", 0, SHADOW, "10", None, status=503),
    row("d", 0, SERVED, "9", 2),
    row("e", 0, SERVED, "9", 3, digest="a0", latency_ms=20),
    row("e", 0, SHADOW, "10", 3, digest="a0", latency_ms=40),
    # another shadow
    row("f", 0, SERVED, "9", 1),
    row("f", 0, SHADOW, "2", 1),
]


@pytest.fixture
def log(tmp_path):
    """The rows in two files, whose border is between the answers to one request."""
    for part, rows in enumerate((ROWS[:5], ROWS[5:])):
        parquet.write_table(pyarrow.Table.from_pylist(rows, SCHEMA), tmp_path / f"served-{part}.parquet")
    return tmp_path


def ask(*words):
    with pytest.raises(SystemExit) as ended:
        cli.main(["compare-served", *map(str, words)])
    return ended.value.code


def test_the_figures_are_those_computed_by_hand(log, capsys):
    assert not ask(log, "--json")
    other, pair = json.loads(capsys.readouterr().out)["pairs"]
    assert (other["served_version"], other["shadow_version"], other["agreement"]) == ("9", "2", 1.0)
    assert pair == {
        "served_version": "9",
        "shadow_version": "10",
        "requests": 4,
        "photos": 5,
        "different_photos": 4,
        "failed": 1,
        "agreement": 0.5,
        "mean_difference": -0.25,
        "by_count": [
            {
                "served": 3,
                "photos": 3,
                "agreement": pytest.approx(2 / 3),
                "mean_difference": pytest.approx(1 / 3),
                "differences": {"+0": 2, "+1": 1},
            },
            {"served": 5, "photos": 1, "agreement": 0.0, "mean_difference": -2.0, "differences": {"-2": 1}},
        ],
        "verdicts": {
            "photos": 2,
            "changed": 1,
            "changes": [{"served": "match", "shadow": "mismatch", "photos": 1}],
        },
        "latency_ms": {
            "served": {"p50": 20.0, "p95": pytest.approx(29.0)},
            "shadow": {"p50": 40.0, "p95": pytest.approx(58.0)},
        },
    }


def test_people_get_tables(log, capsys):
    assert not ask(log)
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines()]
    assert "version 9 served, version 10 shadow" in said
    assert "photos                      5, 4 different" in said
    assert ["served", "photos", "same", "mean", "-2", "+0", "+1"] in lines
    assert ["3", "3", "66.7%", "+0.333", "0", "2", "1"] in lines
    assert ["match", "mismatch", "1"] in lines
    assert "p50 40.0 ms, p95 58.0 ms" in said


def test_different_answered_photos_count_for_the_gate(log):
    assert [shadowed_photos(log, version) for version in ("10", "2", "9")] == [3, 1, 0]


def test_a_log_without_a_shadow_and_one_that_is_none(tmp_path, log, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert not ask(empty)
    assert capsys.readouterr().out == "No photo was answered by a served version and a shadow.\n"
    assert ask(tmp_path / "gone") == 2
    assert "log: must be a folder of `bincount serve --log`, got " in capsys.readouterr().err
    (log / "served-1.parquet").write_bytes(b"half a file")
    assert ask(log) == 3
    assert "served-1.parquet: must be a parquet file of the log, got " in capsys.readouterr().err
