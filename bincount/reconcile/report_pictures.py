"""Pictures for the reviewer of a record: a heat map of what the network counted, and counted bins that look alike."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from bincount.dataset.bin_reader import Photo, photo_of
from bincount.dataset.keys import photo_key
from bincount.errors import RowError
from bincount.outcomes.confirmed import Confirmed
from bincount.progress import ProgressLog
from bincount.store.interface import Store

if TYPE_CHECKING:
    from bincount.learn.predictor import Predictor

SIMILAR = 3
"""Counted bins shown beside a photo."""

MOST_CONFIRMED = 1000
"""Counted bins that are compared, the latest: each must be fetched and go through the network."""

_FEWEST_CONFIRMED = 20
"""With fewer, features cannot be standardised, and hardly one looks alike."""

_CHUNK = 64
_WORKERS = 16
_HEAT_RGB = (255, 48, 0)
_MOST_OPAQUE = 170  # of 255
_FULL_HEAT_ITEMS = 0.3  # a photo in which nothing lowers the count by as much stays pale


class ReportPictures(NamedTuple):
    """Heat maps and similar counted bins, shown beside the photos of some bins.

    Attributes:
        falls: `occlusion.occlusion_map` of each bin's photo, by id.
        similar: Up to `SIMILAR` counted bins whose photos look most like a bin's, the most alike first, by id.
    """

    falls: Mapping[str, np.ndarray]
    similar: Mapping[str, list[Confirmed]]


def report_pictures_of(
    store: Store, predictor: Predictor, ids: Sequence[str], confirmed: Sequence[Confirmed] = ()
) -> ReportPictures:
    """Computes the pictures of some bins; about 27 forward passes each.

    Args:
        store: Where the photos are.
        predictor: The model.
        ids: The bins.
        confirmed: Counted bins to look for similar ones among, the latest first; their photos are in the store too.

    Raises:
        StoreError: If the source does not answer.
    """
    from bincount.learn.occlusion import occlusion_map

    falls, outputs = {}, {}
    with ProgressLog("report pictures", len(ids)) as progress:
        for bin_id, photo in _photos(store, ids):
            try:
                falls[bin_id] = occlusion_map(predictor, photo)
                outputs[bin_id] = predictor.outputs([photo])
            except RowError:
                continue
            progress.step(len(photo))
    if len(confirmed) < _FEWEST_CONFIRMED or not outputs or any(len(each) == 1 for each in outputs.values()):
        return ReportPictures(falls, {})
    known: list[Confirmed] = []
    rows = []
    by_photo = {each.photo: each for each in confirmed[:MOST_CONFIRMED]}
    photos = _photos(store, list(by_photo))
    while chunk := list(islice(photos, _CHUNK)):
        seen, damaged = predictor.observe_readable([photo for _, photo in chunk])
        if seen is not None and seen.features is not None:
            rows.append([seen.probabilities, seen.features])
            known += [by_photo[photo_id] for row, (photo_id, _) in enumerate(chunk) if row not in damaged]
    if len(known) < _FEWEST_CONFIRMED:
        return ReportPictures(falls, {})
    pool, asked = ([np.concatenate(output) for output in zip(*each, strict=True)] for each in (rows, outputs.values()))
    similar = {}
    for bin_id, nearest in zip(outputs, most_alike(*pool, *asked), strict=True):
        similar[bin_id] = [known[at] for at in nearest if known[at].photo != bin_id][:SIMILAR]
    return ReportPictures(falls, similar)


def most_alike(
    pool_probabilities: np.ndarray, pool_features: np.ndarray, probabilities: np.ndarray, features: np.ndarray
) -> np.ndarray:
    """The photos of a pool that look most like others to the network.

    Candidates are the twentieth of the pool, 20 photos at least, with the nearest log probabilities; they are ordered
    by the correlation of their features, standardised by the pool's (docs/log/reconcile.md has what else was tried).

    Args:
        pool_probabilities: (P, C) of photos to choose from.
        pool_features: (P, D) of the same.
        probabilities: (N, C) of the others.
        features: (N, D) of the same.

    Returns:
        (N, K) rows of the pool, the most alike first.
    """
    known, asked = (np.log(np.maximum(each, 1e-6)) for each in (pool_probabilities, probabilities))
    centre, spread = pool_features.mean(axis=0), np.maximum(pool_features.std(axis=0), 1e-6)
    there, here = (_unit((each - centre) / spread) for each in (pool_features, features))
    most = min(len(known), max(_FEWEST_CONFIRMED, len(known) // 20))
    answers = []
    for row, vector in zip(asked, here, strict=True):
        near = np.argsort(((known - row) ** 2).sum(axis=1), kind="stable")[:most]
        answers.append(near[np.argsort(-(there[near] @ vector), kind="stable")])
    return np.stack(answers)


def heat_of(falls: np.ndarray) -> bytes:
    """A PNG of an occlusion map to lay over the photo.

    The more the count falls when a cell is hidden, the more opaque the cell is. The photo's median cell and all cells
    below it are transparent.
    """
    above = np.maximum(falls, 0) - max(0.0, float(np.median(falls)))
    share = np.clip(above / max(float(above.max()), _FULL_HEAT_ITEMS), 0, 1)
    pixels = np.empty((*falls.shape, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = _HEAT_RGB, np.round(_MOST_OPAQUE * share)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _photos(store: Store, ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The usable photos among those of some bins."""
    with closing(store.fetch(map(photo_key, ids), workers=_WORKERS)) as answers:
        for bin_id, answer in zip(ids, answers, strict=True):
            photo = photo_of(bin_id, answer)
            if isinstance(photo, Photo):
                yield bin_id, photo.data


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
