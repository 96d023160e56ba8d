"""The parts of ingest that have a rule of their own."""

import hashlib
import io
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bincount import progress
from bincount.dataset.fetch import HashingWriter
from bincount.dataset.job import check_rejected
from bincount.dataset.journal import Journal, open_entries, read_entry
from bincount.dataset.rejection import SIBLING, Rejection
from bincount.errors import DataError
from bincount.progress import ProgressLog


def test_a_torn_journal_keeps_what_is_whole(tmp_path):
    path = tmp_path / "new" / "metadata.journal"
    with Journal(path) as journal:
        for number in range(5):
            journal.append(f"{number:05d}", b"{%d}" % number * 50)
    whole = path.read_bytes()
    last = len(whole) // 5 * 4
    for length in (0, 5, len(whole) // 5, last + 11, len(whole) - 1, len(whole)):
        path.write_bytes(whole[:length])
        with Journal(path) as journal:
            kept = len(journal.offsets)
            assert kept == length // (len(whole) // 5)
            journal.append("1", b"again")
        with open_entries(path) as entries, Journal(path) as journal:
            assert len(journal.offsets) == kept + 1
            assert read_entry(entries, journal.offsets["1"]) == b"again"
            for number in range(kept):
                assert read_entry(entries, journal.offsets[f"{number:05d}"]) == b"{%d}" % number * 50


@given(st.lists(st.binary(max_size=40)))
def test_a_file_is_hashed_as_it_is_written(chunks):
    file = io.BytesIO()
    file.fileno = lambda: 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bincount.dataset.fetch._PIECE_BYTES", 64)
        patch.setattr("os.fsync", lambda fd: None)
        out = HashingWriter(file)
        for chunk in chunks:
            out.append(chunk)
        digest = out.finish()
        out.close()
    assert file.getvalue() == b"".join(chunks)
    assert digest == hashlib.sha256(b"".join(chunks)).hexdigest()
    assert out.size_bytes == len(file.getvalue())


def test_siblings_are_no_faults():
    siblings = [Rejection(f"{number:05d}", SIBLING) for number in range(50)]
    check_rejected(siblings, 100, 0)
    faults = [
        Rejection("00001", "photo is empty"),
        Rejection("00002", "photo is a PNG"),
        Rejection("3", "photo is empty"),
    ]
    check_rejected([*siblings, *faults], 100, 0.03)
    with pytest.raises(DataError, match=r"2\.00% of 100 bins .* got 3: 2 x photo is empty, 1 x photo is a PNG; the f"):
        check_rejected([*siblings, *faults], 100, 0.02)


def test_a_log_hears_of_progress_every_few_seconds(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr(progress, "_LOG_EVERY_S", 0)
    with ProgressLog("photos", 1200) as shown:
        shown.step(1_000_000)
        shown.step(500_000, rejected=True)
    said = "photos: 2 of 1,200, {} MB/s, 1 rejected, {} s left".replace("{}", r"[\d.]+")
    assert re.fullmatch(said, caplog.messages[-1])
    assert len(caplog.messages) == 3


def test_a_terminal_shows_a_bar(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "_DRAW_EVERY_S", 0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with ProgressLog("photos", 2) as shown:
        shown.step(1_000_000)
        shown.step(10, rejected=True)
    last = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", terminal.getvalue()).splitlines()[-1]
    assert re.search(r"^photos ━+ 2/2 [\d.]+ MB/s, 1 rejected 0:00:00", last)
    assert not caplog.messages
