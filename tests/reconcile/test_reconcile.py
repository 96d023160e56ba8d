"""From records and photos to a worklist: every bin accounted for, the same every time, nothing executed."""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from bincount.dataset.plan import plan
from bincount.dataset.split import part_of
from bincount.errors import ConfigError, DataError, StoreError
from bincount.local.embedded_s3 import open_bucket
from bincount.reconcile.reconcile import reconcile
from bincount.reconcile.state import ReconcileState
from bincount.reconcile.worklist import COLUMNS, write_worklist
from tests.bins import undecodable, write_bin
from tests.bucket_server import run_server
from tests.reconcile.reconciled import FILES, read_lists, registered, write_records, write_source
from tests.stores import make_settings
from tests.tiny import photo


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return make_settings(tmp_path_factory.mktemp("reconcile"))


@pytest.fixture(scope="module")
def model(settings):
    return registered(settings, sharpness=4.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    return str(folder), write_source(folder)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_every_bin_is_listed_worst_first(settings, model, source, out, tmp_path):
    folder, recorded = source
    rows = [(bin_id, count, f"A-{bin_id}") for bin_id, count in recorded.items()]
    file = write_records(tmp_path / "stock.csv", rows, ("id", "recorded", "location"))
    answer = reconcile(settings, source=folder, records=file, model=model, out=str(out), capacity=5)
    lines, table, summary = read_lists(out)
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert {line["id"]: line["recorded"] for line in lines} == recorded
    assert [tuple(line) for line in lines] == [COLUMNS] * 30
    assert [row["id"] for row in table] == [line["id"] for line in lines]
    assert tuple(table[0]) == COLUMNS
    costs = [line["expected_cost"] for line in lines]
    assert costs == sorted(costs, reverse=True)
    first = lines[0]
    assert first["location"] == f"A-{first['id']}"
    assert first["photo"] == f"{folder}/bin-images/{first['id']}.jpg"
    assert json.loads(table[0]["probabilities"]) == first["probabilities"]
    assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert first["probabilities"][str(first["predicted"])] == max(first["probabilities"].values())
    assert first["expected_cost"] == first["mismatch_probability"]  # nothing said of costs: a missed record costs 1
    assert answer == {name: value for name, value in summary.items() if name != "curve"} | {"out": str(out)}
    assert (summary["bins"], summary["judged"], summary["to_count"]) == (30, 30, 5)
    assert sum(summary["verdicts"].values()) == 30
    found = sum(line["mismatch_probability"] for line in lines)
    assert summary["expected_wrong"] == pytest.approx(found, abs=1e-3)
    assert summary["expected_found"] >= summary["expected_found_at_random"]
    assert summary["curve"][-1] == [30, pytest.approx(found, abs=1e-4)]
    assert not list(settings.reconciles.iterdir())


def test_the_served_model_says_the_same(settings, model, source, out):
    """The list and the answer to a request with `recorded` come from one calculation."""
    from mlflow.pyfunc import load_model

    folder, recorded = source
    reconcile(settings, source=folder, model=model, out=str(out))
    lines, _, _ = read_lists(out)
    import mlflow
    import pandas as pd

    mlflow.set_tracking_uri(settings.tracking_uri)
    served = load_model(model, model_config={"bfloat16": False})  # lists are made in float32
    photos = [(line["id"], photo(items=recorded[line["id"]], seed=int(line["id"]))) for line in lines]
    frame = pd.DataFrame({"image": [each for _, each in photos], "recorded": [recorded[name] for name, _ in photos]})
    for line, answer in zip(lines, served.predict(frame), strict=True):
        assert (line["verdict"], line["direction"]) == (answer["verdict"], answer["direction"])
        assert line["mismatch_probability"] == pytest.approx(answer["mismatch_probability"], abs=1e-4)
        assert line["predicted"] == answer["count"]


def test_without_records_the_source_s_own_metadata_are_taken(settings, model, source, out, tmp_path):
    folder, recorded = tmp_path / "copy", source[1]
    shutil.copytree(source[0], folder)
    (folder / "metadata" / "10003.json").write_text("{")
    (folder / "metadata" / "10004.json").unlink()
    (folder / "bin-images" / "10005.jpg").unlink()
    reconcile(settings, source=str(folder), model=model, out=str(out))
    lines, _, summary = read_lists(out)
    assert len(lines) == 30
    reasons = {line["id"]: line["reason"] for line in lines[-3:]}
    assert reasons == {
        "10003": "metadata is no JSON",
        "10004": "metadata is missing",
        "10005": "photo is missing",
    }
    assert {line["id"]: line["recorded"] for line in lines[:-3]} == {
        name: count for name, count in recorded.items() if name not in reasons
    }
    assert lines[-1]["recorded"] == recorded["10005"]
    assert lines[-3]["predicted"]  # the photo was there: what it shows is said
    assert summary["not_judged"] == dict.fromkeys(sorted(reasons.values()), 1)
    assert {line["verdict"] for line in lines[-3:]} == {"not_countable"}


def test_photos_and_records_that_are_none_keep_their_row(settings, model, source, out, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(source[0], folder)
    images = folder / "bin-images"
    (images / "10001.jpg").write_bytes(b"<html>")
    (images / "10002.jpg").write_bytes((images / "10003.jpg").read_bytes()[:400])
    (images / "10004.jpg").write_bytes(b"")
    (images / "10006.jpg").write_bytes(undecodable(photo()))
    hostile = [
        ("../../x", 3, "B-1"),
        ("=HYPERLINK(1)", 3, "+cmd|' /C calc'!A0"),
        ("10007", -1, "@SUM(1)"),
        ("10008", 2.5, "-3"),
        ("10009", 9, "<script>alert(1)</script>"),
        ("10010", "", "A\nB"),
        ("99999", 2, ""),
    ]
    rows = [(f"{number:05d}", 2, "A") for number in range(10_000, 10_007)]
    file = write_records(tmp_path / "stock.csv", rows + hostile, ("id", "recorded", "location"))
    reconcile(settings, source=str(folder), records=file, model=model, out=str(out))
    lines, table, summary = read_lists(out)
    assert len(lines) == len(table) == 14
    by_id = {line["id"]: line for line in lines}
    reasons = {name: line["reason"] for name, line in by_id.items() if line["mismatch_probability"] is None}
    assert reasons == {
        "10001": "photo is no JPEG or PNG",
        "10002": "photo is cut short",
        "10004": "photo is empty",
        "10006": "photo is damaged",
        "../../x": "id is no bin's id",
        "=HYPERLINK(1)": "id is no bin's id",
        "10007": "recorded count is no whole number from 0 to 100000: -1",
        "10008": "recorded count is no whole number from 0 to 100000: 2.5",
        "10009": "the model counts 1-5: it cannot check a record of 9",
        "10010": "recorded count is missing",
        "99999": "photo is missing",
    }
    assert by_id["10009"]["predicted"]
    assert by_id["10007"]["location"] == "@SUM(1)"  # only a spreadsheet would run it
    assert {row["location"] for row in table} >= {"'+cmd|' /C calc'!A0", "'@SUM(1)", "'-3", "A B", ""}
    assert {row["id"] for row in table} >= {"'=HYPERLINK(1)", "../../x"}
    assert not [field for row in table for field in row.values() if field[:1] in tuple("=+-@\t\r") and field]
    assert summary["not_judged"]["recorded count is no whole number from 0 to 100000"] == 2
    assert sum(summary["not_judged"].values()) == 11
    page = (out / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_same_again_gives_the_same_bytes(settings, model, source, tmp_path):
    for name in ("one", "two"):
        reconcile(settings, source=source[0], model=model, out=str(tmp_path / name), capacity=3)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_killed_run_goes_on_and_ends_the_same(settings, model, tmp_path):
    """Killed in the second chunk of 256; the first is not counted again."""
    folder = tmp_path / "many"
    one = photo()
    for number in range(1200):
        write_bin(folder, f"{20_000 + number:05d}", recorded=1 + number % 5, image=one)
    arguments = ["reconcile", "--source", str(folder), "--model", model]
    env = os.environ | {"MLFLOW_TRACKING_URI": settings.tracking_uri, "BINCOUNT_WORKSPACE": str(settings.workspace)}
    command = [sys.executable, "-m", "bincount", *arguments]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--out", str(tmp_path / "killed")], env=env, stdout=log, stderr=log)
        work = None
        while work is None and process.poll() is None:
            time.sleep(0.01)
            work = next((path for path in settings.reconciles.glob("*.db") if _predicted_bins(path, tmp_path)), None)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert work is not None, (tmp_path / "log").read_text()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "summary.json").exists()
    with ReconcileState(work) as left:
        counted = left.count("probabilities IS NOT NULL")
    assert counted % 256 == 0
    assert 0 < counted < 1200
    done = subprocess.run([*command, "--out", str(tmp_path / "killed")], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bins"] == 1200
    assert f"photos: {1200 - counted:,} of {1200 - counted:,}" in done.stderr
    reconcile(settings, source=str(folder), model=model, out=str(tmp_path / "whole"))
    for name in FILES:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def _predicted_bins(path, tmp_path):
    """Number of bins that are committed as predicted, from a copy: the run that writes the file locks it."""
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(f"{path}{suffix}", tmp_path / f"copy.db{suffix}")
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as state:
        try:
            return state.execute("SELECT COUNT(*) FROM bins WHERE probabilities IS NOT NULL").fetchone()[0]
        except sqlite3.DatabaseError:  # copied while it was written
            return 0
        finally:
            (tmp_path / "copy.db-shm").unlink(missing_ok=True)


TRICKLES = {  # what comes a byte at a time, and the signal, by verb
    "plan": ("trickle_probe", signal.SIGINT),
    "fetch": ("trickle", signal.SIGTERM),
    "reconcile": ("trickle", signal.SIGINT),
    "evaluate": ("trickle_list", signal.SIGTERM),
}


def test_a_trickling_answer_keeps_no_verb_from_ending(settings, model, tmp_path):
    with contextlib.ExitStack() as stack:
        servers = {verb: stack.enter_context(run_server(bins=1200, photo_bytes=500)) for verb in TRICKLES}
        buckets = {f"for-{verb}": server.endpoint for verb, server in servers.items()}
        here = dataclasses.replace(settings, workspace=tmp_path / "data", buckets=buckets)
        flags = {verb: [f"--source=s3://for-{verb}"] for verb in TRICKLES}
        flags["fetch"] = [f"--plan={plan(here, source='s3://for-fetch', counts='1-5')['plan']}"]
        flags["reconcile"] += [f"--model={model}", f"--out={tmp_path / 'out'}"]
        flags["evaluate"] += [f"--model={model}"]
        env = here.environment() | {"BINCOUNT_BUCKETS": json.dumps(buckets), "AWS_EC2_METADATA_DISABLED": "true"}
        running = {}
        for verb, (what, _) in TRICKLES.items():
            servers[verb].set(**{what: 1})
            command = [sys.executable, "-m", "bincount", verb, *flags[verb]]
            running[verb] = stack.enter_context(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
            stack.callback(running[verb].kill)
        for verb, process in running.items():
            while not servers[verb].stats().get("trickles"):
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.1)
            began = time.monotonic()
            process.send_signal(TRICKLES[verb][1])
            log = process.communicate(timeout=90)[1]
            assert process.returncode == 128 + TRICKLES[verb][1], log
            assert time.monotonic() - began < 2, f"{verb}: {log}"


def test_costs_and_worth_decide_the_order_and_the_cut(settings, model, source, out, tmp_path):
    folder, recorded = source
    rows = [(bin_id, count, 1000 if number == 7 else 1) for number, (bin_id, count) in enumerate(recorded.items())]
    file = write_records(tmp_path / "stock.csv", rows, ("id", "recorded", "unit_value"))
    reconcile(settings, source=folder, records=file, model=model, out=str(out))
    lines, _, summary = read_lists(out)
    assert lines[0]["id"] == "10007"
    assert summary["to_count"] is None
    costs = {"count_cost": 0.5, "miss_cost": 10.0}
    reconcile(settings, source=folder, records=file, model=model, out=str(out), **costs)
    lines, _, summary = read_lists(out)
    assert lines[0]["expected_cost"] > 10 * lines[0]["mismatch_probability"]
    assert summary["to_count"] == sum(line["expected_cost"] > 0.5 for line in lines) > 0


def test_parquet_and_semicolons_with_a_byte_order_mark_say_the_same(settings, model, source, tmp_path):
    folder, recorded = source
    ids, counts = list(recorded), list(recorded.values())
    parquet.write_table(pyarrow.table({"id": ids, "recorded": counts}), tmp_path / "a.parquet")
    text = "id;recorded\r\n" + "".join(f"{bin_id};{count}\r\n" for bin_id, count in recorded.items())
    (tmp_path / "b.csv").write_bytes(text.encode("utf-8-sig"))
    lists = []
    for name in ("a.parquet", "b.csv"):
        out = tmp_path / name.replace(".", "-")
        reconcile(settings, source=folder, records=str(tmp_path / name), model=model, out=str(out))
        lists.append((out / "worklist.csv").read_bytes())
    assert lists[0] == lists[1]


def test_a_bin_that_stands_twice_is_refused(settings, model, source, out, tmp_path):
    file = write_records(tmp_path / "stock.csv", [("10001", 2), ("10002", 3), ("10001", 4)])
    with pytest.raises(DataError, match="each bin must occur once, got '10001' 2 times, in rows 1 and 3"):
        reconcile(settings, source=source[0], records=file, model=model, out=str(out))
    assert not out.exists()


def test_ids_whose_zeros_a_spreadsheet_dropped_are_refused(settings, model, out, tmp_path):
    folder = tmp_path / "both"
    for bin_id in ("00731", "00732", "00733", "731", "733"):
        write_bin(folder, bin_id, recorded=2, image=photo())
    file = write_records(tmp_path / "stock.csv", [("731", 2), ("732", 2), ("733", 2)])
    with pytest.raises(DataError, match=r"^stock\.csv: ids must be .*'732' \(the source has '00732'\).* as text"):
        reconcile(settings, source=str(folder), records=file, model=model, out=str(out))
    assert not out.exists()
    file = write_records(tmp_path / "stock.csv", [("731", 2), ("733", 2)])  # bins of the source both
    with pytest.raises(DataError, match=r"none with leading zeros: '731' \(the source has '00731', too\).* as text"):
        reconcile(settings, source=str(folder), records=file, model=model, out=str(out))
    assert not list(settings.reconciles.glob("*.db"))
    parquet.write_table(pyarrow.table({"id": ["731", "733"], "recorded": [2, 2]}), tmp_path / "stock.parquet")
    file = write_records(tmp_path / "both.csv", [("00731", 2), ("731", 2)])
    for records in (str(tmp_path / "stock.parquet"), file):  # ids that are text; and zeros that were kept
        reconcile(settings, source=str(folder), records=records, model=model, out=str(out))
        assert len(read_lists(out)[0]) == 2


def test_a_misspelled_id_among_many_is_found_by_its_missing_photo(settings, model, out, tmp_path):
    """Only some ids are compared before photos are scored; afterwards all that had none are."""
    folder = tmp_path / "many"
    ids = [f"{number:05d}" for number in range(1_001, 1_251)]
    for bin_id in ids:
        write_bin(folder, bin_id, recorded=2, image=photo())
    ids[100] = "1101"
    file = write_records(tmp_path / "stock.csv", [(bin_id, 2) for bin_id in ids])
    with pytest.raises(DataError, match=r"'1101' \(the source has '01101'\)"):
        reconcile(settings, source=str(folder), records=file, model=model, out=str(out))
    assert not list(settings.reconciles.glob("*.db"))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], r"must have at least one usable record, got no rows"),
        ([("10001", "?"), ("b/2", 3)], "must have at least one usable record, got 2 rows, the first problem: "),
        ([("70001", 3), ("70002", 3)], r"that can be compared with a photo, got none: photo is missing \(2\)"),
        ([("10001", 900)], r"got none: record is none of the model's counts \(1\)"),
    ],
)
def test_a_file_of_which_no_row_can_be_used_is_an_error(settings, model, source, out, tmp_path, rows, words):
    file = write_records(tmp_path / "stock.csv", rows)
    with pytest.raises(DataError, match=rf"^stock\.csv: .*{words}"):
        reconcile(settings, source=source[0], records=file, model=model, out=str(out))
    assert not list(settings.reconciles.glob("*.db"))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"capacity": 0}, "capacity: must be a whole number >= 1"),
        ({"capacity": 3, "count_cost": 1.0, "miss_cost": 2.0}, "stand without count_cost"),
        ({"count_cost": 1.0}, "count_cost: must stand with miss_cost"),
        ({"miss_cost": -1.0}, "miss_cost: must be a number from 0"),
        ({"miss_cost": float("nan")}, "miss_cost: must be a number from 0"),
        ({"error_rate": 1.0}, "error_rate: must be a number above 0 and below 1"),
        ({"alpha": 0.0}, "alpha: must be a number above 0 and below 1"),
        ({"model": "models:/bincount@nobody"}, "must name a version, got none"),
        ({"records": "absent.csv"}, "must be a readable file"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_done(settings, model, source, out, wrong, words):
    with pytest.raises(ConfigError, match=words):
        reconcile(settings, **{"source": source[0], "model": model, "out": str(out), **wrong})
    assert not out.exists()


def test_blind_shows_neither_records_nor_predictions(settings, model, out, tmp_path):
    """Not in the page at all, whoever reads its source; the lists keep them."""
    folder = tmp_path / "copy"
    write_bin(folder, "30000", recorded=4, image=photo())
    file = write_records(
        tmp_path / "stock.csv", [("30000", 4, "A-1"), ("30001", 777, "A-2")], ("id", "recorded", "location")
    )
    reconcile(settings, source=str(folder), records=file, model=model, out=str(out), blind=True)
    page = (out / "report.html").read_text()
    assert "30000" in page
    for word in ("777", "mismatch", "unsure", "fewer", "prediction interval", "data-verdict", "recorded</button>"):
        assert word not in page, word
    assert "recorded" in (out / "worklist.csv").read_text()


def test_two_processes_cannot_do_the_same_work(tmp_path):
    with ReconcileState(tmp_path / "work.db"), pytest.raises(ConfigError, match="only one process"):
        ReconcileState(tmp_path / "work.db")


def test_two_requests_write_to_one_folder_one_after_the_other(
    settings, model, source, out, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    files = [
        write_records(tmp_path / f"{bins}.csv", [(bin_id, 3) for bin_id in list(source[1])[:bins]]) for bins in (2, 3)
    ]
    run = functools.partial(reconcile, settings, source=source[0], model=model, out=str(out))
    other = threading.Thread(target=run, kwargs={"records": files[1]})

    def while_the_other_comes(*arguments):
        monkeypatch.undo()
        other.start()
        while other.is_alive() and "publishing: waiting" not in caplog.text:
            time.sleep(0.01)
        write_worklist(*arguments)

    monkeypatch.setattr("bincount.reconcile.report.write_worklist", while_the_other_comes)
    assert run(records=files[0])["bins"] == 2
    other.join()
    assert len(read_lists(out)[0]) == read_lists(out)[2]["bins"] == 3


def test_bins_the_model_may_know_by_heart_are_told(settings, model, out, tmp_path):
    """The model of these tests learned from s3://aft-vbi-pds; a folder is another source."""
    from bincount.tracking import model_registry
    from bincount.tracking.client import mlflow_client

    folder = tmp_path / "copy"
    for number in range(1, 41):
        write_bin(folder, f"{number:05d}", recorded=2, image=photo())
    reconcile(settings, source=str(folder), model=model, out=str(out))
    assert read_lists(out)[2]["learned_from"] == 0
    version = model_registry.version_named(settings, model)
    model_registry.describe(settings, version, tags={"bincount.source": str(folder)})
    reconcile(settings, source=str(folder), model=model, out=str(out))
    assert read_lists(out)[2]["learned_from"] == sum(part_of(f"{number:05d}") != "test" for number in range(1, 41))
    with mlflow_client(settings, "test") as client:
        client.set_model_version_tag(model_registry.MODEL, version, "bincount.source", "s3://aft-vbi-pds")


def test_with_an_open_class_no_record_is_outside(source, out, tmp_path):
    settings = make_settings(tmp_path)
    model = registered(settings, counts="0-5+", sharpness=4.0)
    rows = [(bin_id, recorded) for bin_id, recorded in zip(source[1], (0, 3, 6, 17, 100_000), strict=False)]
    file = write_records(tmp_path / "stock.csv", rows)
    reconcile(settings, source=source[0], records=file, model=model, out=str(out))
    lines, table, summary = read_lists(out)
    assert summary["judged"] == 5
    assert "not_countable" not in {line["verdict"] for line in lines}
    assert set(lines[0]["probabilities"]) == {"0", "1", "2", "3", "4", "5", "6+"}
    assert {line["direction"] for line in lines if line["recorded"] == 0} == {"more"}
    assert {row["recorded"] for row in table} == {"0", "3", "6", "17", "100000"}


def test_a_bucket_gives_what_a_folder_gives(settings, model, source, tmp_path):
    server = open_bucket(Path(source[0]), port=0, bucket="to-reconcile")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        of_server = dataclasses.replace(settings, buckets={"to-reconcile": f"http://127.0.0.1:{server.port}"})
        reconcile(of_server, source="s3://to-reconcile", model=model, out=str(tmp_path / "bucket"))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    reconcile(settings, source=source[0], model=model, out=str(tmp_path / "folder"))
    table = (tmp_path / "folder" / "worklist.csv").read_text()
    assert (tmp_path / "bucket" / "worklist.csv").read_text() == table.replace(source[0], "s3://to-reconcile")


def test_a_folder_that_cannot_be_written_is_told_before_the_photos_are_counted(settings, model, source, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match=r"--out: .* must be a writable folder, got 'File exists'"):
        reconcile(settings, source=source[0], model=model, out=str(tmp_path / "out"))
    (left,) = settings.reconciles.glob("*.db")
    with ReconcileState(left) as work:
        assert work.count("probabilities IS NOT NULL") == 0
        work.remove()


def test_work_that_is_damaged_says_what_to_delete(tmp_path):
    (tmp_path / "work.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="or delete it"):
        ReconcileState(tmp_path / "work.db")


def test_a_model_without_a_calibration_is_refused(settings, source, out):
    from tests.serving.versions import register_version

    version, _ = register_version(dataclasses.replace(settings))
    with pytest.raises(ConfigError, match=f"version {version} must have a calibration, got none"):
        reconcile(settings, source=source[0], model=f"models:/bincount/{version}", out=str(out))
