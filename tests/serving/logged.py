"""Answers to be logged, without a server."""

import json
import time
from pathlib import Path

from pyarrow import parquet

from bincount.client import request_of
from bincount.evaluate.served_log import FILES, SERVED
from bincount.serving.log_writer import LoggedAnswer


def answer_about(photos, *, request="r", counts=None, recorded=None, role=SERVED, version="1", status=200, **more):
    """What the listener logs about photos that were counted."""
    counts = counts or [3] * len(photos)
    predictions = [
        {"count": count, "confidence": 0.8, "probabilities": {str(count): 0.8, "9": 0.2}, **more} for count in counts
    ]
    body, content_type = request_of(photos, recorded)
    said = json.dumps({"predictions": predictions}).encode()
    return LoggedAnswer(request, time.time(), role, version, status, len(photos), 12.5, content_type, body, said)


def rows_in(folder: Path) -> list[dict]:
    """Every row of a log; a file that is not whole raises."""
    return [row for path in sorted(folder.glob(FILES)) for row in parquet.read_table(path).to_pylist()]


def size_of(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
