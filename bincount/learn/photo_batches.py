"""Photos out of shards, decoded ahead of the network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import cast

import keras
import numpy as np
import tensorflow as tf

from bincount.counts import Counts
from bincount.dataset.contents import sums_of
from bincount.dataset.manifest import Manifest, Record
from bincount.dataset.shards import decode_example, open_shard, read_contents, read_record
from bincount.errors import DataError
from bincount.learn.devices import on_gpu
from bincount.learn.images import decode

_EXAMPLE = {"id": tf.io.FixedLenFeature([], tf.string), "image": tf.io.FixedLenFeature([], tf.string)}


def ids_of(shard: Path) -> list[str]:
    """The ids of a shard's bins, in its order, every checksum verified.

    Raises:
        DataError: If a record is damaged, or there is no such file.
    """
    with open_shard(shard) as file:
        ids, end = [], shard.stat().st_size
        while file.tell() < end:
            ids.append(cast(bytes, decode_example(read_record(file, file.tell()))["id"]).decode())
        return ids


def load_photos(records: Sequence[Record], shards: Sequence[Path], *, image_px: int, fit: str) -> np.ndarray:
    """Loads some photos by their position in the shards, uint8 (N, image_px, image_px, 3).

    Args:
        records: The bins, in the order wanted.
        shards: Path of each of the manifest's shards.
        image_px: Side of the square photos.
        fit: "pad" or "squash".

    Raises:
        DataError: If a record is damaged, or a shard is not there.
    """
    photos = []
    for record in records:
        with open_shard(shards[record.shard]) as file:
            example = decode_example(read_record(file, record.offset))
        photos.append(decode(cast(bytes, example["image"]), image_px=image_px, fit=fit))
    return np.stack(photos)


def read_photos(
    shard: Path, *, image_px: int, fit: str, batch: int, skip: int = 0
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yields every photo of a shard once, in the shard's order, in batches.

    Decoding runs ahead in threads of its own; while the network computes on
    the processor there are at most two, which leaves it the other cores.

    Args:
        shard: A TFRecord file of `dataset.shards`.
        image_px: Side of the square photos.
        fit: "pad" or "squash".
        batch: Photos a batch; the last one may be smaller.
        skip: Photos to pass over first, undecoded.

    Yields:
        Ids, and photos (B, image_px, image_px, 3) uint8.

    Raises:
        DataError: If the shard or a photo in it is damaged.
    """

    def square(data: bytes) -> np.ndarray:
        return decode(data, image_px=image_px, fit=fit)

    threads = len(os.sched_getaffinity(0)) if on_gpu() else 2
    dataset = tf.data.TFRecordDataset([str(shard)]).skip(skip)
    dataset = dataset.map(lambda record: tf.io.parse_single_example(record, _EXAMPLE))
    # Deterministic (the default): ids and photos come in the shard's order, which resuming relies on.
    dataset = dataset.map(
        lambda example: (example["id"], tf.numpy_function(square, [example["image"]], tf.uint8, stateful=False)),
        num_parallel_calls=threads,
    )
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.autotune.enabled = False  # it would take 16 workers and half of the memory
    dataset = dataset.batch(batch).prefetch(2).with_options(options)
    try:
        for ids, photos in dataset.as_numpy_iterator():
            yield [bin_id.decode() for bin_id in ids.tolist()], photos
    except tf.errors.OpError as error:
        raise DataError(
            f"shards/{shard.name}: every record must be whole and hold a photo, got {_reason(error)}. "
            "Run `bincount ingest` again; it rebuilds what is damaged."
        ) from error


def _reason(error: tf.errors.OpError) -> str:
    """The photo's or the record's fault, without the trace that TensorFlow appends."""
    return error.message.removeprefix("InvalidObject: ").splitlines()[0][:200]


MEMORY_BYTES = 4_000_000_000
"""Photos are kept decoded if they all fit into this: 26,000 at 224 px."""

BRIGHTNESS = CONTRAST = 0.2
"""Both change by up to this share: bins are lit differently, and the count stays the same."""

SHIFT = 0.05
"""A photo is moved by up to this share of its side, its edge mirrored: cameras are not always in the same position."""


class Photos:
    """The photos and classes of some bins, decoded when first read.

    Attributes:
        classes: (N,) int32, index of each recorded count.
    """

    def __init__(
        self,
        manifest: Manifest,
        parts: Sequence[str],
        shards: Sequence[Path],
        counts: Counts,
        *,
        image_px: int,
        fit: str,
    ) -> None:
        """Takes the bins of some parts of a manifest, the paths of its shards, and the counts to tell apart."""
        records = [record for part in parts for record in manifest.part(part)]
        self.classes = np.array([counts.index_of(record.recorded) for record in records], np.int32)
        self._records, self._shards, self._image_px, self._fit = records, shards, image_px, fit
        shape = (len(records), image_px, image_px, 3)
        self._kept = np.empty(shape, np.uint8) if np.prod(shape) <= MEMORY_BYTES else None
        self._is_decoded = np.zeros(len(records), bool)

    def __len__(self) -> int:
        return len(self._records)

    @cached_property
    def sums(self) -> np.ndarray:
        """(N, len(SUMS)) float32, what the products on each record sum to; NaN where it is not known.

        Raises:
            DataError: If a record is damaged.
        """
        return np.array([sums_of(products) for products in read_contents(self._records, self._shards)])

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Reads photos by row, uint8 (len(rows), image_px, image_px, 3).

        Raises:
            DataError: If a record is damaged.
        """
        if self._kept is None:
            return self._decode(rows)
        missing = np.unique(rows[~self._is_decoded[rows]])
        if len(missing):
            self._kept[missing] = self._decode(missing)
            self._is_decoded[missing] = True
        return self._kept[rows]

    def _decode(self, rows: np.ndarray) -> np.ndarray:
        def load(some: np.ndarray) -> np.ndarray:
            records = [self._records[row] for row in some]
            return load_photos(records, self._shards, image_px=self._image_px, fit=self._fit)

        threads = min(len(os.sched_getaffinity(0)), len(rows))
        with ThreadPoolExecutor(threads) as pool:
            return np.concatenate(list(pool.map(load, np.array_split(rows, threads))))


class TrainingBatches(keras.utils.PyDataset):
    """One epoch of training: every bin except those of a last, short batch, in an order of its own.

    Order and variation depend on the seed, the epoch and the
    batch only, so that an epoch that is run again is the same epoch.
    """

    def __init__(self, photos: Photos, targets: np.ndarray, batch: int, *, seed: int, epoch: int) -> None:
        """Takes soft targets (classes, classes), a row for each recorded class."""
        super().__init__(workers=1)
        self._sums = standardised(photos.sums)
        self._photos, self._targets, self._batch, self._key = photos, targets, min(batch, len(photos)), (seed, epoch)
        self._order = np.random.default_rng(self._key).permutation(len(photos))

    def __len__(self) -> int:
        return len(self._photos) // self._batch

    def __getitem__(self, index: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        rows = self._order[index * self._batch : (index + 1) * self._batch]
        rng = np.random.default_rng((*self._key, index))
        return _vary(self._photos.read(rows), rng), (self._targets[self._photos.classes[rows]], self._sums[rows])


def moments(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, over what is known; 0 and 1 where nothing is."""
    known = np.isfinite(sums)
    number = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, sums, 0).sum(axis=0) / number
    deviation = np.sqrt((np.where(known, sums - mean, 0) ** 2).sum(axis=0) / number)
    return mean, np.where(deviation > 0, deviation, 1.0)


def standardised(sums: np.ndarray) -> np.ndarray:
    """Sums (N, S) minus their mean, in standard deviations; NaN stays."""
    mean, deviation = moments(sums)
    return ((sums - mean) / deviation).astype(np.float32)


def _vary(photos: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrors, moves and lights photos (B, px, px, 3) uint8, each at random; the counts stay the same."""
    size = photos.shape[1]
    reach = round(SHIFT * size)
    padded = np.pad(photos, [(0, 0), (reach, reach), (reach, reach), (0, 0)], "reflect")
    corners = rng.integers(0, 2 * reach + 1, (len(photos), 2))
    moved = np.stack(
        [photo[top : top + size, left : left + size] for photo, (top, left) in zip(padded, corners, strict=True)]
    )
    mirrored = rng.random(len(photos)) < 0.5
    moved[mirrored] = moved[mirrored, :, ::-1]
    contrast = 1 + CONTRAST * rng.uniform(-1, 1, (len(photos), 1, 1, 1)).astype(np.float32)
    brightness = 1 + BRIGHTNESS * rng.uniform(-1, 1, (len(photos), 1, 1, 1)).astype(np.float32)
    mean = moved.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float32)
    return np.clip(((moved - mean) * contrast + mean) * brightness, 0, 255).astype(np.uint8)


def soft_targets(classes: int, mix: float) -> np.ndarray:
    """The training targets of each class: the class, mixed with its neighbours.

    Args:
        classes: How many counts to tell apart.
        mix: Share of the neighbour distribution (2 for the class, 1 for each
            neighbour), 0 to 1; 0 is plain cross entropy.

    Returns:
        (classes, classes) float32, rows summing to 1.

    Example:
        >>> [round(float(share), 3) for share in soft_targets(3, 0.3)[1]]
        [0.075, 0.85, 0.075]
    """
    distance = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes)))
    neighbours = np.clip(2.0 - distance, 0, None)
    neighbours /= neighbours.sum(axis=1, keepdims=True)
    return ((1 - mix) * np.eye(classes) + mix * neighbours).astype(np.float32)
