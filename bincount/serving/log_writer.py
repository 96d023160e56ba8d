"""The process that writes the log of served answers.

    python -m bincount.serving.log_writer SETTINGS

It is a process of its own, so that parsing requests again and writing files blocks neither the listener's interpreter
nor its event loop. It reads requests with their answers from its input. When the input ends, also because the listener
was killed, it writes what it has read and ends. Each time that rows were written or lost, it prints a line of JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import select
import struct
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from bincount.errors import BincountError
from bincount.evaluate.served_log import SCHEMA
from bincount.locks import exclusive_lock
from bincount.serving.admission import RequestLimits
from bincount.serving.log_folder import LogFolder
from bincount.serving.request_parser import parse_request

_log = logging.getLogger(__name__)

LOCK = ".lock"
"""Held in the log's folder by the one process that writes to it."""
WRITTEN, FAILED = "written", "failed"
"""Keys of a report: rows that are in a file, and rows that were lost."""

_FLUSH_S, _FLUSH_ROWS = 5.0, 1000
_FILE_BYTES = 1_000_000  # a larger file is continued in another one; what it holds is in memory too, 40 times as large
_FILES_AT_LEAST = 10  # that fit into the bound, so that deleting the oldest one loses at most a tenth of the log
_LOCK_S = 30.0  # the writer of a server that was killed is ending
_LENGTHS = struct.Struct(">III")
_ANSWERED = ("count", "confidence", "low", "high", "mismatch_probability", "direction", "verdict")


@dataclass(frozen=True)
class LogSettings:
    """Folder, size and contents of the log of answers.

    Attributes:
        folder: The log's folder.
        most_mb: Largest size of all its files together.
        photos: Whether photos are kept, too.
    """

    folder: str
    most_mb: float
    photos: bool


@dataclass(frozen=True)
class LoggedAnswer:
    """One request with the answer of one version.

    Attributes:
        request: Its id; the answers of two versions to one request have the same.
        asked_at: When it was asked, in seconds since 1970.
        role: `served_log.SERVED` or `SHADOW`.
        version: The version that answered.
        status: The answer's HTTP status.
        rows: Number of the request's photos.
        latency_ms: Time from asking the version to its answer.
        content_type: The request's.
        body: The request's.
        answer: The answer's body; read where the status is 200.
    """

    request: str
    asked_at: float
    role: str
    version: str
    status: int
    rows: int
    latency_ms: float
    content_type: str
    body: bytes
    answer: bytes

    def to_frame(self) -> tuple[bytes, bytes, bytes]:
        """The answer framed for `read_frame`, in parts, since the body may be large."""
        facts = json.dumps({name: value for name, value in vars(self).items() if name not in ("body", "answer")})
        head = facts.encode()
        return _LENGTHS.pack(len(head), len(self.body), len(self.answer)) + head, self.body, self.answer


def read_frame(pipe: FileIO) -> LoggedAnswer | None:
    """The next answer of a pipe, None at its end, also in the middle of an answer."""
    try:
        lengths = _LENGTHS.unpack(_read_exactly(pipe, _LENGTHS.size))
        head, body, answer = (_read_exactly(pipe, length) for length in lengths)
    except EOFError:
        return None
    return LoggedAnswer(**json.loads(head), body=body, answer=answer)


def _read_exactly(pipe: FileIO, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        more = pipe.read(size - len(content))
        if not more:
            raise EOFError
        content += more
    return bytes(content)


class LogWriter:
    """Collects rows and writes them to files; the last file grows until it is large enough."""

    def __init__(self, folder: LogFolder, settings: LogSettings, limits: RequestLimits) -> None:
        """Takes the folder, what to log, and what a request may hold."""
        self._folder, self._photos, self._limits = folder, settings.photos, limits
        self._file_bytes = min(_FILE_BYTES, int(settings.most_mb * 1e6) // _FILES_AT_LEAST)
        self._rows: list[dict[str, Any]] = []
        self._path: Path | None = None
        self._table: pyarrow.Table = SCHEMA.empty_table()  # what the file at this path holds
        self._is_failing = False

    @property
    def rows(self) -> int:
        """Rows that are in no file yet."""
        return len(self._rows)

    def add(self, answer: LoggedAnswer) -> None:
        """Adds the rows of an answer and keeps its photos; one that the disk does not take is only logged.

        Raises:
            BincountError: If the request cannot be read.
        """
        parsed = parse_request(answer.body, answer.content_type, self._limits)
        predictions = json.loads(answer.answer)["predictions"] if answer.status == 200 else [{}] * len(parsed.photos)
        rows = []
        for row, (photo, recorded, prediction) in enumerate(
            zip(parsed.photos, parsed.recorded, predictions, strict=True)
        ):
            digest = hashlib.sha256(photo).hexdigest()
            rows.append(
                {
                    "time": datetime.fromtimestamp(answer.asked_at, UTC),
                    "request": answer.request,
                    "row": row,
                    "role": answer.role,
                    "version": answer.version,
                    "digest": digest,
                    "status": answer.status,
                    "latency_ms": answer.latency_ms,
                    "recorded": recorded,
                    "probabilities": prediction.get("probabilities", {}),
                    **{name: prediction.get(name) for name in _ANSWERED},
                }
            )
            if self._photos:
                try:
                    self._folder.write_photo(digest, photo)
                except OSError as error:
                    self._say_failing(error)
        self._rows += rows

    def flush(self) -> dict[str, int]:
        """Writes the rows that are in no file yet; those that the disk does not take are lost.

        Returns:
            Number of rows by `WRITTEN` or `FAILED`.
        """
        rows, self._rows = self._rows, []
        self._path = self._path or self._folder.new_file()
        # In one piece: hundreds of small ones would take twice the memory.
        table = pyarrow.concat_tables([self._table, pyarrow.Table.from_pylist(rows, SCHEMA)]).combine_chunks()
        content = BytesIO()
        parquet.write_table(table, content, compression="zstd")
        try:
            self._folder.write_rows(self._path, content.getvalue())
        except OSError as error:
            self._say_failing(error)
            return {FAILED: len(rows)}
        if self._is_failing:
            _log.info("the log is written again")
        self._is_failing, self._table = False, table
        if content.tell() >= self._file_bytes:
            self._path, self._table = None, SCHEMA.empty_table()
        return {WRITTEN: len(rows)}

    def _say_failing(self, error: OSError) -> None:
        if not self._is_failing:
            _log.error("the log cannot be written, so its rows are lost and answers go on: %s", error)
        self._is_failing = True


def main(argv: list[str]) -> None:
    """Writes until its input ends."""
    given = json.loads(argv[0])
    settings, limits = LogSettings(**given["log"]), RequestLimits(**given["limits"])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s log: %(message)s", datefmt="%H:%M:%S")
    place = Path(settings.folder)
    with exclusive_lock(place / LOCK, "--log", timeout_s=_LOCK_S), FileIO(0, "rb") as pipe:
        _run(LogWriter(LogFolder(place, int(settings.most_mb * 1e6)), settings, limits), pipe)


def arguments_of(settings: LogSettings, limits: RequestLimits) -> list[str]:
    """The arguments of `main`."""
    return [json.dumps({"log": asdict(settings), "limits": asdict(limits)})]


def _run(writer: LogWriter, pipe: FileIO) -> None:
    due: float | None = None
    while True:
        wait_s = None if due is None else max(0.0, due - time.monotonic())
        is_readable = bool(select.select([pipe], [], [], wait_s)[0])
        answer = read_frame(pipe) if is_readable else None
        has_ended = is_readable and answer is None
        if answer is not None:
            try:
                writer.add(answer)
            except (BincountError, ValueError, KeyError, TypeError) as error:
                _log.error("a request that version %s answered is not logged: %s", answer.version, error)
                _report({FAILED: answer.rows})
        if writer.rows and due is None:
            due = time.monotonic() + _FLUSH_S
        if due is not None and (has_ended or writer.rows >= _FLUSH_ROWS or time.monotonic() >= due):
            _report(writer.flush())
            due = None
        if has_ended:
            return


def _report(rows: dict[str, int]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the listener was killed
        os.write(1, json.dumps(rows).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
