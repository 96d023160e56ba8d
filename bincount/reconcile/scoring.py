"""What the model says of each bin's photo."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from bincount.dataset.reader import PHOTOS, read_photo
from bincount.dataset.rejection import Rejection
from bincount.errors import RowError
from bincount.evaluate.batch_inference import rounded
from bincount.evaluate.drift_baseline import DriftBaseline
from bincount.progress import ProgressLog
from bincount.reconcile.state import ReconcileState
from bincount.store.interface import Store

if TYPE_CHECKING:
    from bincount.learn.predictor import Predictor

_CHUNK = 256
_WORKERS = 32
_UNSEEN = "has_photo AND probabilities IS NULL AND photo_problem IS NULL"

_Photo = tuple[int, bytes, tuple[int, int]]  # place, file, width and height
_Row = tuple[bytes | None, bytes | None, str, int]


def score_photos(work: ReconcileState, store: Store, predictor: Predictor, reference: DriftBaseline | None) -> None:
    """Counts the items on every photo that was not looked at yet, 256 at a time.

    Chunks end at the same bins whether the run was killed in between or not,
    so that the same photos go through the network together. What they look
    like is noted beside what they show (`watching.LOOKS`).

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
            yield from (PHOTOS.key(bin_id) for _, bin_id in page)

    chunk: list[_Photo] = []
    bad: list[_Row] = []
    with ProgressLog("photos", unseen) as progress, closing(store.fetch(keys(), workers=_WORKERS)) as answers:
        for answer in answers:
            place, bin_id = waiting.popleft()
            photo = read_photo(bin_id, answer)
            if isinstance(photo, Rejection):
                bad.append((None, None, photo.reason, place))
            else:
                chunk.append((place, photo.data, (photo.width_px, photo.height_px)))
            if len(chunk) + len(bad) == _CHUNK:
                _count(work, predictor, reference, chunk, bad, progress)
                chunk, bad = [], []
        _count(work, predictor, reference, chunk, bad, progress)


def _count(
    work: ReconcileState,
    predictor: Predictor,
    reference: DriftBaseline | None,
    chunk: list[_Photo],
    bad: list[_Row],
    progress: ProgressLog,
) -> None:
    left = list(chunk)
    rows = [*bad]
    while left:
        try:
            seen = predictor.observe([photo for _, photo, _ in left])
        except RowError as error:  # its header is valid and its pixels are not
            rows.append((None, None, "photo is damaged", left.pop(error.row)[0]))
            continue
        places, _, sizes = zip(*left, strict=True)
        distance = np.full(len(left), np.nan) if reference is None else reference.distance(seen.features, len(left))
        looks = rounded(np.column_stack([sizes, seen.brightness, seen.sharpness, distance]))
        blobs = ((row.tobytes() for row in each) for each in (rounded(seen.probabilities), looks))
        rows += [(*pair, "", place) for *pair, place in zip(*blobs, places, strict=True)]
        break
    work.update(("probabilities", "looks", "photo_problem"), rows)
    sizes_bytes = {place: len(photo) for place, photo, _ in chunk}
    for *_, problem, place in rows:
        progress.step(sizes_bytes.get(place, 0), bool(problem))
