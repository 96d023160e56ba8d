"""What the model says of each bin's photo."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from bincount.core.errors import DataError
from bincount.core.photos import size_of_photo
from bincount.core.rejected import BadObject
from bincount.edge.store import Fetched, Store
from bincount.steps.ingesting.progress import Progress
from bincount.steps.reconciling.work import Work

if TYPE_CHECKING:
    from bincount.learn.predict import Predictor

_CHUNK = 256
_WORKERS = 32
_UNSEEN = "has_photo AND probabilities IS NULL AND photo_problem IS NULL"
_DIGITS = 6  # what lies beyond differs with the processor


def score_photos(work: Work, store: Store, predictor: Predictor) -> None:
    """Counts the items on every photo that was not looked at yet, 256 at a time.

    Chunks end at the same bins whether the run was killed in between or not,
    so that the same photos go through the network together.

    Raises:
        StoreError: If the source does not answer; what was counted stays.
    """
    unseen = work.count(_UNSEEN)
    if not unseen:
        return
    waiting: deque[tuple[int, str]] = deque()

    def keys() -> Iterator[str]:
        for page in work.pages("id", _UNSEEN):
            waiting.extend(page)
            yield from (f"bin-images/{bin_id}.jpg" for _, bin_id in page)

    chunk: list[tuple[int, bytes]] = []
    bad: list[tuple[None, str, int]] = []
    with Progress("photos", unseen) as progress, closing(store.fetch(keys(), workers=_WORKERS)) as answers:
        for answer in answers:
            place, bin_id = waiting.popleft()
            problem = problem_of(bin_id, answer)
            if problem:
                bad.append((None, problem, place))
            else:
                chunk.append((place, answer.data or b""))
            if len(chunk) + len(bad) == _CHUNK:
                _count(work, predictor, chunk, bad, progress)
                chunk, bad = [], []
        _count(work, predictor, chunk, bad, progress)


def problem_of(bin_id: str, answer: Fetched) -> str:
    """Why what was fetched is no photo to be counted, "" where it is one."""
    if answer.data is None:
        return f"photo is {answer.problem}"
    try:
        size_of_photo(bin_id, answer.data)
    except BadObject as error:
        return error.reason
    return ""


def _count(
    work: Work,
    predictor: Predictor,
    chunk: list[tuple[int, bytes]],
    bad: list[tuple[None, str, int]],
    progress: Progress,
) -> None:
    left = list(chunk)
    rows: list[tuple[bytes | None, str, int]] = [*bad]
    while left:
        try:
            found = predictor.predict([photo for _, photo in left])
        except DataError as error:
            # Its header was sound and its pixels are not.
            match = re.match(r"row (\d+)", str(error))
            if match is None:
                raise
            rows.append((None, "photo is damaged", left.pop(int(match[1]))[0]))
            continue
        rounded = np.round(found.astype(np.float64), _DIGITS)
        rows += [(row.tobytes(), "", place) for row, (place, _) in zip(rounded, left, strict=True)]
        break
    work.update(("probabilities", "photo_problem"), rows)
    sizes = {place: len(photo) for place, photo in chunk}
    for _, problem, place in rows:
        progress.step(sizes.get(place, 0), bool(problem))
