"""From a worklist to counts and back to the next worklist, which knows better."""

import dataclasses

import numpy as np
import pytest

from bincount.outcomes.import_outcomes import import_outcomes
from bincount.outcomes.outcome_store import OutcomeStore
from bincount.outcomes.worklist_reader import Worklist
from bincount.reconcile.reconcile import reconcile
from tests.reconcile.reconciled import read_lists, registered, write_records, write_source
from tests.simulated import kept_rows
from tests.stores import make_settings

WRONG = {"10003": 2, "10010": 5, "10020": 3, "10031": 4}


@pytest.fixture(scope="module")
def reconciled(tmp_path_factory):
    """A worklist of 60 bins, four of whose records are wrong; its folder, its settings, and what is there."""
    place = tmp_path_factory.mktemp("outcomes")
    settings = make_settings(place)
    model = registered(settings, sharpness=4.0)
    there = write_source(place / "source", bins=60)
    rows = [(bin_id, WRONG.get(bin_id, count)) for bin_id, count in there.items()]
    asked = {
        "source": str(place / "source"),
        "records": write_records(place / "stock.csv", rows),
        "model": model,
        "count_cost": 2.0,
        "miss_cost": 40.0,
    }
    reconcile(settings, out=str(place / "worklist"), **asked)
    return settings, asked, place / "worklist", there


def test_counts_come_back_and_the_next_run_uses_their_rate(reconciled, tmp_path):
    settings, asked, worklist, there = reconciled
    before = read_lists(worklist)[2]
    assert before["error_rate"] == 0.02
    assert before["error_rate_from"] == {"by": "default", "outcomes": 0, "needed": 30}
    counts = [(bin_id, count, "2026-11-20", "Ada") for bin_id, count in there.items()]
    file = write_records(tmp_path / "counts.csv", counts, ("id", "counted", "when", "by"))
    answer = import_outcomes(settings, file=file, worklist=str(worklist))
    assert answer["counted"]["wrong"] == len(WRONG)
    assert answer["cost"]["net"] == 4 * 40 - 60 * 2  # as reconcile was told
    rate = answer["error_rate"]
    assert rate["outcomes"] == 60

    assert before["decay"] == []
    assert answer["decay"]["facts"]["coverage"]["bins"] == 60
    assert answer["decay"]["facts"]["found"]["expected"] == pytest.approx(before["expected_wrong"] / 60, abs=1e-5)

    out = tmp_path / "again"
    reconcile(settings, out=str(out), **asked)
    after = read_lists(out)[2]
    assert after["decay"] == [answer["decay"]]
    assert "What counting found" not in (worklist / "report.html").read_text()
    assert "<td>2026-11-20</td>" in (out / "report.html").read_text()
    assert after["error_rate"] == rate["estimate"]
    assert after["error_rate_from"] == {"by": "outcomes", "outcomes": 60, "low": rate["low"], "high": rate["high"]}
    assert after["expected_wrong"] > before["expected_wrong"]
    assert "is the default until 30 bins" in (worklist / "report.html").read_text()
    assert "is estimated from 60 counted bins of this source" in (out / "report.html").read_text()
    reconcile(settings, out=str(out), error_rate=0.01, **asked)
    said = read_lists(out)[2]
    assert (said["error_rate"], said["error_rate_from"]) == (0.01, {"by": "--error-rate", "outcomes": 0})
    # The counts say nothing of another source.
    write_source(tmp_path / "other", bins=3)
    reconcile(settings, source=str(tmp_path / "other"), model=asked["model"], out=str(out))
    assert read_lists(out)[2]["error_rate_from"]["by"] == "default"


def test_a_model_found_too_sure_is_tempered(reconciled, tmp_path):
    settings, asked, worklist, _ = reconciled
    settings = dataclasses.replace(settings, workspace=tmp_path / "data")
    lines, _, before = read_lists(worklist)
    assert (before["temperature"], before["recalibration"]["used"]) == (1.0, False)
    about = {"source": asked["source"], "version": before["model_version"], "manifest": before["manifest"]}
    origin, rows = kept_rows(1, bins=1000, sureness=2.0, **about)
    with OutcomeStore(settings).locked():
        OutcomeStore(settings).add(origin, rows)
    reconcile(settings, out=str(tmp_path / "out"), error_rate=0.02, **asked)
    tempered, _, after = read_lists(tmp_path / "out")
    assert after["recalibration"]["used"]
    assert after["temperature"] == after["recalibration"]["temperature"] > 1.3
    by_id = {line["id"]: line for line in tempered}
    changed = 0
    for line in lines:
        again = by_id[line["id"]]
        assert again["probabilities"] == line["probabilities"]
        assert (again["verdict"] == "mismatch") == (line["verdict"] == "mismatch")
        changed += again["mismatch_probability"] != line["mismatch_probability"]
    assert changed > 30


def test_a_list_is_read_as_it_was_written(reconciled):
    _, _, worklist, _ = reconciled
    lines, _, summary = read_lists(worklist)
    rows = [row for page in Worklist(worklist).pages() for row in page]
    assert [row.id for row in rows] == [line["id"] for line in lines]
    assert np.sum(summary["prior"]) == pytest.approx(1)
    assert rows[0].probabilities == tuple(lines[0]["probabilities"].values())
    for row, line in zip(rows, lines, strict=True):
        stated = (line["mismatch_probability"], line["low"], line["high"], 1.0)
        assert (row.stated.wrong, row.stated.low, row.stated.high, row.stated.temperature) == stated
        assert 1 <= line["low"] <= line["high"] <= 5
        assert (line["verdict"] == "mismatch") == (not line["low"] <= line["recorded"] <= line["high"])
