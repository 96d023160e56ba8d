"""Counts come back to their worklist: nothing lost, nothing twice, and said honestly what they are worth."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pyarrow
import pytest
from pyarrow import parquet

from bincount.config import DecayLimits
from bincount.errors import ConfigError, DataError
from bincount.outcomes.estimates import estimate_from_outcomes
from bincount.outcomes.import_outcomes import import_outcomes
from bincount.outcomes.outcome_store import OutcomeStore
from bincount.settings import Settings
from tests.reconcile.reconciled import write_records
from tests.simulated import kept_rows

TITLES = ("id", "counted", "when", "by")
DAY = "2026-11-20"


WRONG = {"10003": 2, "10010": 5, "10020": 3, "10031": 4}


def write_worklist(folder, records, there):
    """A worklist as `reconcile` writes it, of a model that sees what is there half of the time. Returns the folder."""
    folder.mkdir()
    lines = []
    for row, (bin_id, recorded) in enumerate(records.items()):
        seen = there[bin_id] if row % 2 else 1 + (row // 2) % 5
        shown = {str(count): 0.6 if count == seen else 0.1 for count in range(1, 6)}
        chance = 0.05 if seen != recorded else 0.005
        lines.append({"id": bin_id, "recorded": recorded, "probabilities": shown, "mismatch_probability": chance})
    lines.sort(key=lambda line: -line["mismatch_probability"])
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (folder / "worklist.jsonl").write_bytes(content)
    summary = {
        "source": "s3://b",
        "model_version": "1",
        "manifest": "m",
        "counts": "1-5",
        "prior": [0.2] * 5,
        "learned_from": 0,
        "count_cost": None,
        "miss_cost": None,
        "worklist": hashlib.sha256(content).hexdigest()[:16],
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture
def fresh(tmp_path):
    """A worklist of 60 bins, four of whose records are wrong, and what is there; nothing is counted yet."""
    settings = Settings(tmp_path / "data", f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")
    there = {f"{10_000 + number:05d}": 1 + number % 5 for number in range(60)}
    return settings, write_worklist(tmp_path / "worklist", there | WRONG, there), there


def counts_of(there, ids=None, when=DAY, by="Ada"):
    return [(bin_id, there[bin_id], when, by) for bin_id in ids or there]


def files_of(settings):
    return {path.name: path.read_bytes() for path in settings.outcomes.glob("*.jsonl")}


def bring(settings, worklist, path, rows, titles=TITLES, **how):
    return import_outcomes(settings, file=write_records(path, rows, titles), worklist=str(worklist), **how)


def lines_of(worklist):
    return [json.loads(line) for line in (worklist / "worklist.jsonl").read_text().splitlines()]


def test_what_counting_every_bin_found(fresh, tmp_path):
    settings, worklist, there = fresh
    rows = counts_of(there)
    answer = bring(settings, worklist, tmp_path / "counts.csv", rows, count_cost=2.0, miss_cost=40.0)
    assert answer == json.loads((worklist / "outcomes.json").read_text())
    assert answer["outcomes"] == {"read": 60, "new": 60, "kept": 60}
    counted = answer["counted"]
    assert (counted["bins"], counted["wrong"], counted["not_judged"]) == (60, 4, 0)
    assert counted["precision"]["estimate"] == pytest.approx(4 / 60, abs=1e-6)
    assert counted["precision"]["low"] < 4 / 60 < counted["precision"]["high"]
    # 10003 holds 4, recorded 2; 10010 1, recorded 5; 10020 1, recorded 3; 10031 2, recorded 4.
    assert counted["overs"] == {"bins": 1, "items": 2}
    assert counted["shorts"] == {"bins": 3, "items": 8}
    # All were counted: every order finds the same.
    assert answer["yield"]["found"] == 4
    assert answer["yield"]["at_random"] == answer["yield"]["by_recorded"] == [4.0, 4.0, 4.0]
    assert answer["yield"]["among_the_first"] == 1
    assert answer["cost"] == {
        "spent": 120.0,
        "saved": 160.0,
        "net": 40.0,
        "against_random": [0.0, 0.0, 0.0],
        "against_recorded": [0.0, 0.0, 0.0],
    }
    assert answer["error_rate"]["outcomes"] == 60
    assert 0 < answer["error_rate"]["low"] < 4 / 60 < answer["error_rate"]["high"] < 0.3
    assert answer["recalibration"] == {"outcomes": 60, "needed": 200, "used": False}
    assert any("Not enough outcomes to recalibrate: it needs 200" in line for line in answer["says"])


def test_the_first_of_the_list_against_other_orders(fresh, tmp_path):
    settings, worklist, there = fresh
    lines = lines_of(worklist)
    first = [line["id"] for line in lines[:10]]
    answer = bring(settings, worklist, tmp_path / "counts.csv", counts_of(there, first), count_cost=1.0, miss_cost=10.0)
    found = sum(line["recorded"] != there[line["id"]] for line in lines[:10])
    gained = answer["yield"]
    assert (gained["bins"], gained["found"], gained["among_the_first"]) == (10, found, 1)
    for order in ("at_random", "by_recorded"):
        middle, low, high = gained[order]
        assert 0 < low < middle < high <= 10
    assert answer["cost"]["spent"] == 10.0
    assert answer["cost"]["against_random"][0] == pytest.approx(10 * (found - gained["at_random"][0]), abs=0.02)
    assert any(line.startswith("Not enough outcomes for the next run: it needs 30") for line in answer["says"])
    assert any(line.startswith("100% of the counted bins are among the first 10") for line in answer["says"])


def test_the_same_again_changes_nothing(fresh, tmp_path):
    settings, worklist, there = fresh
    rows = counts_of(there, list(there)[:9])
    first = bring(settings, worklist, tmp_path / "counts.csv", rows)
    files = files_of(settings)
    again = bring(settings, worklist, tmp_path / "other-name.csv", rows[::-1])
    assert again["outcomes"] == {"read": 9, "new": 0, "kept": 9}
    assert files_of(settings) == files
    assert {**again, "outcomes": None} == {**first, "outcomes": None}
    more = bring(settings, worklist, tmp_path / "counts.csv", counts_of(there, list(there)[:12]))
    assert more["outcomes"] == {"read": 12, "new": 3, "kept": 12}
    assert {name: files_of(settings)[name] for name in files} == files  # added to, never changed


def test_counts_that_are_worse_than_the_list_stated_are_a_decay(fresh, tmp_path, caplog):
    """Half of the records were stated to be wrong, and none is."""
    settings, worklist, there = fresh
    lines = [{**line, "recorded": there[line["id"]], "mismatch_probability": 0.5} for line in lines_of(worklist)]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (worklist / "worklist.jsonl").write_bytes(content)
    summary = json.loads((worklist / "summary.json").read_text())
    summary["worklist"] = hashlib.sha256(content).hexdigest()[:16]
    (worklist / "summary.json").write_text(json.dumps(summary))
    few = bring(settings, worklist, tmp_path / "few.csv", counts_of(there, list(there)[:5]))
    assert few["decay"]["beyond"] == []
    assert "coverage" not in few["decay"]["facts"]  # an earlier release's list has no intervals
    answer = bring(settings, worklist, tmp_path / "counts.csv", counts_of(there))
    assert answer["decay"]["beyond"] == ["found"]
    assert "decay: found is 0 in 60 counted bins, 0.5 was expected" in caplog.text
    assert bring(settings, worklist, tmp_path / "counts.csv", counts_of(there))["decay"] == answer["decay"]
    deaf = dataclasses.replace(settings, decay=DecayLimits(found=0))
    assert bring(deaf, worklist, tmp_path / "counts.csv", counts_of(there))["decay"]["beyond"] == []


def test_outcomes_of_an_earlier_release_are_read_and_not_compared(fresh, tmp_path):
    settings, worklist, there = fresh
    answer = bring(settings, worklist, tmp_path / "counts.csv", counts_of(there))
    assert answer["decay"]["bins"] == 60
    (path,) = settings.outcomes.glob("*.jsonl")
    head, *lines = path.read_text().splitlines()
    old = [json.dumps({name: value for name, value in json.loads(line).items() if name != "stated"}) for line in lines]
    content = "".join(f"{line}\n" for line in (head, *old)).encode()
    path.unlink()
    (settings.outcomes / f"{hashlib.sha256(content).hexdigest()[:16]}.jsonl").write_bytes(content)
    again = bring(settings, worklist, tmp_path / "counts.csv", counts_of(there))
    assert again["outcomes"] == {"read": 60, "new": 0, "kept": 60}
    assert again["decay"] is None
    assert again["counted"] == answer["counted"]


def test_a_later_count_supersedes_in_whatever_order_they_come(fresh, tmp_path):
    settings, worklist, there = fresh
    late = [("10000", there["10000"], "2026-11-21T08:00", "Bo")]
    early = [("10000", 9, "2026-11-20T08:00", "Ada"), ("10001", there["10001"], DAY, "Ada")]
    bring(settings, worklist, tmp_path / "late.csv", late)
    answer = bring(settings, worklist, tmp_path / "early.csv", early)
    assert answer["superseded"] == 1
    assert (answer["counted"]["bins"], answer["counted"]["wrong"]) == (2, 0)
    both = bring(settings, worklist, tmp_path / "both.csv", [*late, *early])
    assert both["outcomes"] == {"read": 3, "new": 0, "kept": 3}


def test_two_who_differ_at_the_same_time_are_left_out_until_somebody_decides(fresh, tmp_path):
    settings, worklist, there = fresh
    bring(settings, worklist, tmp_path / "a.csv", counts_of(there, ["10000", "10001"], by="Ada"))
    answer = bring(
        settings, worklist, tmp_path / "b.csv", [("10000", 9, DAY, "Bo"), ("10001", there["10001"], DAY, "Bo")]
    )
    assert answer["conflicts"] == ["10000"]
    assert answer["counted"]["bins"] == 1
    answer = bring(settings, worklist, tmp_path / "c.csv", counts_of(there, ["10000"], when="2026-11-21"))
    assert (answer["conflicts"], answer["counted"]["bins"], answer["counted"]["wrong"]) == ([], 2, 0)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [("10000", 3, DAY, ""), ("../../x", 3, DAY, "")],
            r"counts\.csv, line 3: id must be a bin's id, got '../../x'",
        ),
        ([("10000", -1, DAY, "")], "line 2: counted must be a whole number from 0 to 100000, got '-1'"),
        ([("10000", 2.5, DAY, "")], "line 2: counted must be a whole number from 0 to 100000, got '2.5'"),
        ([("10000", 3, "20.11.26", "")], "line 2: when must be a date or time"),
        ([("10000", 3, DAY, ""), ("10000", 4, DAY, "")], "line 3: each bin must occur once a day"),
        ([("10000", 3, DAY, ""), ("523", 3, DAY, "")], "line 3: id must be on the worklist, got '523'"),
        ([], "must have at least one count, got none"),
    ],
)
def test_a_row_that_is_wrong_is_named_and_none_is_taken(fresh, tmp_path, rows, words):
    settings, worklist, _ = fresh
    with pytest.raises(DataError, match=words):
        bring(settings, worklist, tmp_path / "counts.csv", rows)
    assert not files_of(settings)


def test_a_file_without_end_is_refused_early(fresh, tmp_path, monkeypatch):
    settings, worklist, there = fresh
    monkeypatch.setattr("bincount.outcomes.import_outcomes._MAX_ROWS", 3)
    with pytest.raises(DataError, match=r"counts\.csv: must have at most 3 counts, got more\. Split the file"):
        bring(settings, worklist, tmp_path / "counts.csv", counts_of(there))
    assert not files_of(settings)


def test_titles_that_are_missing(fresh, tmp_path):
    settings, worklist, _ = fresh
    with pytest.raises(DataError, match=r"must have one column 'when', got 0 .*: id, counted, when and, optionally,"):
        bring(settings, worklist, tmp_path / "counts.csv", [("10000", 3)], TITLES[:2])


def test_parquet_and_semicolons_with_a_byte_order_mark_are_the_same_counts(fresh, tmp_path):
    settings, worklist, there = fresh
    rows = counts_of(there, list(there)[:5], by="Zoë; =1+1")
    text = "id;counted;when;by\r\n" + "".join(f'{a};{b};{c};"{d}"\r\n' for a, b, c, d in rows)
    (tmp_path / "counts.csv").write_bytes(text.encode("utf-8-sig"))
    columns = dict(zip(TITLES, map(list, zip(*rows, strict=True)), strict=True))
    columns["when"] = pyarrow.array(columns["when"]).cast(pyarrow.date32())
    parquet.write_table(pyarrow.table(columns), tmp_path / "counts.parquet")
    first = import_outcomes(settings, file=str(tmp_path / "counts.csv"), worklist=str(worklist))
    assert first["outcomes"]["new"] == 5
    again = import_outcomes(settings, file=str(tmp_path / "counts.parquet"), worklist=str(worklist))
    assert again["outcomes"] == {"read": 5, "new": 0, "kept": 5}


def test_what_is_no_worklist_is_told(fresh, tmp_path):
    settings, worklist, there = fresh
    rows = counts_of(there)
    with pytest.raises(ConfigError, match=r"--worklist: .* must be a folder that `bincount reconcile --out` wrote"):
        bring(settings, tmp_path / "none", tmp_path / "counts.csv", rows)
    changed = tmp_path / "changed"
    changed.mkdir()
    for name in ("summary.json", "worklist.jsonl"):
        (changed / name).write_bytes((worklist / name).read_bytes())
    (changed / "worklist.jsonl").write_text((worklist / "worklist.jsonl").read_text().replace("10000", "10100"))
    with pytest.raises(DataError, match="must be as `bincount reconcile` wrote it"):
        bring(settings, changed, tmp_path / "counts.csv", rows)
    (changed / "summary.json").write_text("{}")
    with pytest.raises(ConfigError, match="got a worklist of an earlier release"):
        bring(settings, changed, tmp_path / "counts.csv", rows)
    (changed / "summary.json").write_text("{")
    with pytest.raises(DataError, match=r"summary\.json: must be JSON"):
        bring(settings, changed, tmp_path / "counts.csv", rows)
    with pytest.raises(ConfigError, match="--miss-cost: must be a number >= 0, got nan"):
        bring(settings, worklist, tmp_path / "counts.csv", rows, miss_cost=float("nan"))


def test_what_was_kept_and_damaged_since_is_told(fresh, tmp_path):
    settings, worklist, there = fresh
    bring(settings, worklist, tmp_path / "counts.csv", counts_of(there))
    (path,) = settings.outcomes.glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="must have the digest in its name"):
        bring(settings, worklist, tmp_path / "counts.csv", counts_of(there))


def test_a_workspace_that_cannot_be_written(fresh, tmp_path):
    settings, worklist, there = fresh
    settings.workspace.mkdir()
    settings.outcomes.write_text("a file")
    with pytest.raises(ConfigError, match="must be writable with free disk space"):
        bring(settings, worklist, tmp_path / "counts.csv", counts_of(there))


def test_ids_whose_zeros_a_spreadsheet_dropped_are_refused(tmp_path):
    """Some of the shortened ids are on the worklist by accident, as other bins."""
    settings = Settings(tmp_path / "data", f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")
    there = {"00812": 1, "00813": 2, "00814": 3, "812": 4, "814": 5}
    worklist = write_worklist(tmp_path / "worklist", there, there)
    for shortened in (["812", "813", "814"], ["813"], ["813", "814"]):
        with pytest.raises(DataError, match=r"^counts\.csv: ids must be .*'813' \(the source has '00813'\).* as text"):
            bring(settings, worklist, tmp_path / "counts.csv", [(bin_id, 3, DAY, "") for bin_id in shortened])
    with pytest.raises(DataError, match=r"none with leading zeros: '812' \(the source has '00812', too\)"):
        bring(settings, worklist, tmp_path / "counts.csv", counts_of(there, ["812", "814"]))
    assert not files_of(settings)
    answer = bring(settings, worklist, tmp_path / "counts.csv", counts_of(there))
    assert answer["counted"]["bins"] == 5


def test_evenings_and_recounts_by_the_file_s_clock(fresh, tmp_path):
    settings, worklist, there = fresh
    rows = [
        ("10000", 9, "2026-11-19T23:30-06:00", "Ada"),
        ("10000", 8, "2026-11-20T05:00-06:00", "Bo"),  # the same day in UTC
        ("10001", 9, "2026-11-20T06:00-06:00", "Ada"),
        ("10001", there["10001"], "2026-11-20T13:00-06:00", "Ada"),  # the recount of the same day
        ("10002", 9, "2026-11-19T22:00-06:00", "Bo"),
        ("10002", there["10002"], "2026-11-20", "Bo"),  # the next day, though 00:00 UTC of it is earlier
    ]
    answer = bring(settings, worklist, tmp_path / "counts.csv", rows)
    assert answer["outcomes"] == {"read": 6, "new": 6, "kept": 6}
    assert (answer["superseded"], answer["counted"]["bins"], answer["counted"]["wrong"]) == (3, 3, 1)


def command(settings, file, worklist):
    """`bincount outcomes import`, as a person runs it."""
    env = os.environ | {"MLFLOW_TRACKING_URI": settings.tracking_uri, "BINCOUNT_WORKSPACE": str(settings.workspace)}
    words = [sys.executable, "-m", "bincount", "outcomes", "import", str(file), "--worklist", str(worklist)]
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_two_people_at_once_lose_nothing(fresh, tmp_path):
    settings, worklist, there = fresh
    ids = list(there)
    shares = {"Ada": ids[:40], "Bo": ids[30:]}  # both counted ten of them, and agree
    running = []
    for by, share in shares.items():
        file = write_records(tmp_path / f"{by}.csv", counts_of(there, share, by=by), TITLES)
        running.append(command(settings, file, worklist))
    answers = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], answers
    assert sum(json.loads(out)["outcomes"]["new"] for out, _ in answers) == 70
    last = json.loads((worklist / "outcomes.json").read_text())
    assert (last["outcomes"]["kept"], last["counted"]["bins"], last["conflicts"]) == (70, 60, [])


def test_killed_at_any_time_and_run_again_nothing_is_lost_or_twice(fresh, tmp_path):
    settings, _, _ = fresh
    worklist = tmp_path / "big"
    there = {f"{100_000 + row:06d}": 1 + row % 5 for row in range(5_000)}
    write_worklist(worklist, there, there)
    file = write_records(tmp_path / "counts.csv", counts_of(there), TITLES)
    kills = 0
    for _ in range(3):
        process = command(settings, file, worklist)
        while process.poll() is None:  # killed while it writes, or just after
            if list(settings.outcomes.glob(".*.jsonl.*")) or files_of(settings):
                time.sleep(0.004 * kills)
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.001)
        process.communicate()
        whole = [row for rows in OutcomeStore(settings).read().values() for row in rows]
        assert len(whole) in (0, 5_000)
    assert kills > 0
    process = command(settings, file, worklist)
    out, error = process.communicate()
    assert process.returncode == 0, error
    answer = json.loads(out)
    assert answer["outcomes"]["kept"] == answer["counted"]["bins"] == 5_000
    assert len(files_of(settings)) == 1
    assert not list(settings.outcomes.glob(".*.jsonl.*"))


def test_enough_outcomes_recalibrate_if_it_helps_beyond_chance():
    asked = {"source": "s3://b", "version": "1", "manifest": "m"}
    few = estimate_from_outcomes(dict([kept_rows(1, bins=199, sureness=2.0)]), **asked)
    assert (few.temperature, few.facts["recalibration"]["used"]) == (1.0, False)
    surer = estimate_from_outcomes(dict([kept_rows(1, bins=1000, sureness=2.0)]), **asked)
    assert surer.temperature > 1.3
    assert surer.facts["recalibration"]["used"]
    assert surer.facts["recalibration"]["gain"][1] > 0
    sound = estimate_from_outcomes(dict([kept_rows(1, bins=400)]), **asked)
    assert sound.temperature == 1.0
    assert sound.facts["recalibration"]["outcomes"] == 400
    assert sound.rate.low < 0.1 < sound.rate.high
    other = estimate_from_outcomes(dict([kept_rows(1, bins=1000, sureness=2.0)]), **{**asked, "version": "2"})
    assert (other.outcomes, other.model_outcomes, other.temperature) == (
        1000,
        0,
        1.0,
    )  # the rate is the books', not the model's


def test_a_count_teaches_once_and_bins_that_were_learned_from_do_not():
    asked = {"source": "s3://b", "version": "1", "manifest": "m"}
    (first, rows), (second, _) = kept_rows(1, "one", bins=40), kept_rows(1, "two", bins=40)
    assert estimate_from_outcomes({first: rows, second: rows}, **asked).outcomes == 40
    known, learned = kept_rows(2, learned=True, bins=40)
    assert estimate_from_outcomes({known: learned}, **asked).rate is None
    assert estimate_from_outcomes({}, **asked).rate is None
