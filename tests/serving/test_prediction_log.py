"""The log of served answers: its process, its bounds, and what it does when disk or process fail."""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from bincount.cli import parser
from bincount.errors import ConfigError
from bincount.evaluate.served_log import SHADOW
from bincount.serving.admission import RequestLimits
from bincount.serving.log_writer import LogSettings, arguments_of
from bincount.serving.prediction_log import PredictionLog
from bincount.serving.serve import serve
from tests.faults.small_disk import small_disk
from tests.serving.logged import answer_about, rows_in, size_of
from tests.serving.versions import PHOTOS
from tests.tiny import photo


@contextlib.contextmanager
def writer(folder, *, most_mb=1, photos=False):
    """The process that writes, on a pipe."""
    words = arguments_of(LogSettings(str(folder), most_mb, photos), RequestLimits())
    command = [sys.executable, "-m", "bincount.serving.log_writer", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def send(process, answer):
    for part in answer.to_frame():
        process.stdin.write(part)
    process.stdin.flush()


def reports_of(process):
    """Its reports until its end, which is that of its input."""
    process.stdin.close()
    reports = [json.loads(line) for line in process.stdout]
    assert process.wait(30) == 0
    return reports


def with_comment(jpeg, number):
    """The same photo as another file."""
    return jpeg[:2] + b"\xff\xfe\x00\x0a" + f"{number:08d}".encode() + jpeg[2:]


def test_a_row_a_photo_with_what_was_asked_and_answered(tmp_path):
    judged = {"low": 2, "high": 4, "mismatch_probability": 0.25, "direction": "more", "verdict": "match"}
    with writer(tmp_path, photos=True) as process:
        send(process, answer_about(PHOTOS[:2], request="a", counts=[2, 3], recorded=[3, None], **judged))
        send(process, answer_about(PHOTOS[:2], request="a", role=SHADOW, version="2", status=500))
        assert reports_of(process) == [{"written": 4}]
    first, second, *shadow = rows_in(tmp_path)
    assert first["time"].utcoffset().total_seconds() == 0
    assert abs(first["time"].timestamp() - time.time()) < 60
    digest = hashlib.sha256(PHOTOS[0]).hexdigest()
    assert [first[name] for name in ("request", "row", "role", "version", "digest", "status", "recorded", "count")] == [
        *("a", 0, "served", "1", digest, 200, 3, 2)
    ]
    assert dict(first["probabilities"]) == pytest.approx({"2": 0.8, "9": 0.2})
    assert {name: first[name] for name in judged} == judged
    assert (second["row"], second["recorded"], second["count"], second["latency_ms"]) == (1, None, 3, 12.5)
    assert [(row["row"], row["status"], row["count"], row["verdict"]) for row in shadow] == [
        (0, 500, None, None),
        (1, 500, None, None),
    ]
    assert (tmp_path / "photos" / f"{digest}.jpg").read_bytes() == PHOTOS[0]


def test_the_folder_stays_within_its_bound_and_the_oldest_go(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with writer(tmp_path, photos=True) as process:
        for number in range(32):
            photos = [with_comment(PHOTOS[0], 256 * number + row) for row in range(256)]
            send(process, answer_about(photos, request=str(number)))
        assert sum(report["written"] for report in reports_of(process)) == 32 * 256
    assert 900_000 < size_of(tmp_path) <= 1_000_004
    requests = {row["request"] for row in rows_in(tmp_path)}
    assert "31" in requests
    assert "0" not in requests
    kept = {path.stem for path in (tmp_path / "photos").iterdir()}
    assert {hashlib.sha256(each).hexdigest() for each in photos} <= kept
    assert len(kept) < 1000
    with writer(tmp_path) as process:  # what was there before counts, too
        send(process, answer_about(photos, request="again"))
        reports_of(process)
    assert size_of(tmp_path) <= 1_000_004
    assert "again" in {row["request"] for row in rows_in(tmp_path)}
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_killed_process_leaves_whole_files_and_the_next_one_cleans_up(tmp_path):
    photos, seen = [PHOTOS[0]] * 256, 0
    for kill in range(4):
        with writer(tmp_path, most_mb=100) as process:
            for number in range(8):
                send(process, answer_about(photos, request=f"{kill} {number}"))
            process.stdout.readline()  # it has written at least once
            time.sleep(random.Random(kill).uniform(0, 0.1))
            process.kill()
        assert len(rows_in(tmp_path)) > seen
        seen = len(rows_in(tmp_path))
    (tmp_path / ".served-20260101T000000-0.parquet.ab").write_bytes(b"half")
    (tmp_path / "photos" / f".{'0' * 64}.jpg.ab").write_bytes(b"half")
    with writer(tmp_path, most_mb=100) as process:
        assert reports_of(process) == []
    assert [path for path in tmp_path.rglob(".*") if path.name != ".lock"] == []
    assert len(rows_in(tmp_path)) == seen


def test_what_others_put_between_the_photos_stays_and_stops_nothing(tmp_path):
    for name in (".ipynb_checkpoints", "old"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    for name in ("notes.txt", ".gitignore"):
        (tmp_path / "photos" / name).write_bytes(bytes(1_000_000))
    with writer(tmp_path, photos=True) as process:
        for number in range(16):
            photos = [with_comment(PHOTOS[0], 256 * number + row) for row in range(256)]
            send(process, answer_about(photos, request=str(number)))
        assert sum(report["written"] for report in reports_of(process)) == 16 * 256
    assert {".ipynb_checkpoints", ".gitignore", "notes.txt", "old"} < {
        path.name for path in (tmp_path / "photos").iterdir()
    }
    assert "15" in {row["request"] for row in rows_in(tmp_path)}


def test_a_full_disk_loses_rows_and_nothing_else(tmp_path):
    with small_disk(tmp_path / "disk", 4) as disk, writer(disk.folder / "log", photos=True) as process:
        many = [PHOTOS[0]] * 256
        for _ in range(4):
            send(process, answer_about(many))
        assert json.loads(process.stdout.readline()) == {"written": 1024}
        disk.fill()
        for number in range(4):
            send(process, answer_about([photo(seed=number), *many[1:]]))
        assert json.loads(process.stdout.readline()) == {"failed": 1024}
        disk.mend()
        send(process, answer_about(PHOTOS))
        assert reports_of(process) == [{"written": 5}]
        assert len(rows_in(disk.folder / "log")) == 1029


def test_when_the_queue_is_full_rows_are_dropped_and_counted(tmp_path):
    """Also: a killed process is started again, and what it had is counted as lost."""

    async def run():
        log = PredictionLog(LogSettings(str(tmp_path), 100, False), RequestLimits(body_mb=1))
        log.start()
        log.add(answer_about(PHOTOS[:1]))
        while not log._process:
            await asyncio.sleep(0.01)
        os.kill(log._process.pid, signal.SIGSTOP)
        large = answer_about([photo(items=9, size=(1600, 1200), seed=1)])
        began = time.monotonic()
        for _ in range(600):
            log.add(large)
        assert time.monotonic() - began < 0.5
        await asyncio.sleep(0.5)
        held = 600 - log.rows["dropped"]
        assert 1 <= held <= 257
        assert held * len(large.body) < 3_000_000
        os.kill(log._process.pid, signal.SIGKILL)
        while not log.rows["failed"]:
            await asyncio.sleep(0.05)
        await log.close()
        return log.rows

    rows = asyncio.run(run())
    assert rows["written"] == len(rows_in(tmp_path)) > 0
    assert sum(rows.values()) == 601


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--shadow=challenger"], "--shadow: must stand with --log, got it alone"),
        (["--log-photos"], "--log-photos: must stand with --log"),
        (["--log-mb=5"], "--log-mb: must stand with --log"),
        (["--log=FOLDER", "--log-mb=0.5"], "--log-mb: must be a number >= 1, got 0.5"),
        (["--log=FOLDER", "--shadow=champion"], "--shadow: must be another version than the one that serves"),
        (["--log=FOLDER", "--shadow=3", "--model-version=3"], "--shadow: must be another version"),
        (["--log=FILE"], r"--log: must be a folder that can be written, got .* \(Not a directory\)"),
    ],
)
def test_flags_that_do_not_fit_are_refused(tmp_path, flags, words):
    (tmp_path / "file").write_text("")
    places = {"FOLDER": str(tmp_path / "log"), "FILE": str(tmp_path / "file" / "log")}
    flags = [flag.replace("FOLDER", places["FOLDER"]).replace("FILE", places["FILE"]) for flag in flags]
    with pytest.raises(ConfigError, match=words):
        serve(parser().parse_args(["serve", *flags]))
