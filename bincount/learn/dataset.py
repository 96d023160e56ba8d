"""Photos out of shards, decoded ahead of the network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import tensorflow as tf

from bincount.core.errors import DataError
from bincount.core.manifest import Record
from bincount.core.shards import decode_example, read_record
from bincount.learn.devices import on_gpu
from bincount.learn.images import decode

_EXAMPLE = {"id": tf.io.FixedLenFeature([], tf.string), "image": tf.io.FixedLenFeature([], tf.string)}


def ids_of(shard: Path) -> list[str]:
    """The ids of a shard's bins, in its order, every checksum verified.

    Raises:
        DataError: If a record is damaged, or there is no such file.
    """
    with _open(shard) as file:
        ids, end = [], shard.stat().st_size
        while file.tell() < end:
            ids.append(cast(bytes, decode_example(read_record(file, file.tell()))["id"]).decode())
        return ids


def load_photos(records: Sequence[Record], shards: Sequence[Path], *, image_px: int, fit: str) -> np.ndarray:
    """Loads some photos by their place in the shards, uint8 (N, image_px, image_px, 3).

    Args:
        records: The bins, in the order wanted.
        shards: Path of each of the manifest's shards.
        image_px: Side of the square photos.
        fit: "pad" or "squash".

    Raises:
        DataError: If a record is damaged, or a shard is not there.
    """
    photos, squared = [], _compile(image_px, fit)
    for record in records:
        with _open(shards[record.shard]) as file:
            example = decode_example(read_record(file, record.offset))
        photos.append(squared(tf.constant(example["image"])).numpy())
    return np.stack(photos)


def read_photos(
    shard: Path, *, image_px: int, fit: str, batch: int, skip: int = 0
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yields every photo of a shard once, in the shard's order, in batches.

    Decoding runs ahead in threads of its own; while the network computes on
    the processor these are two at most, so that they do not fight for cores.

    Args:
        shard: A TFRecord file of `core.shards`.
        image_px: Side of the square photos.
        fit: "pad" or "squash".
        batch: Photos a batch; the last one may be smaller.
        skip: Photos to pass over first, undecoded.

    Yields:
        Ids, and photos (B, image_px, image_px, 3) uint8.

    Raises:
        DataError: If the shard or a photo in it is damaged.
    """
    threads = len(os.sched_getaffinity(0)) if on_gpu() else 2
    dataset = tf.data.TFRecordDataset([str(shard)]).skip(skip)
    dataset = dataset.map(lambda record: tf.io.parse_single_example(record, _EXAMPLE))
    # Deterministic (the default): ids and photos come in the shard's order, which resuming relies on.
    dataset = dataset.map(
        lambda example: (example["id"], decode(example["image"], image_px=image_px, fit=fit)),
        num_parallel_calls=threads,
    )
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.autotune.enabled = False  # it would take 16 workers and half of the memory
    dataset = dataset.batch(batch).prefetch(2).with_options(options)
    try:
        for ids, photos in dataset.as_numpy_iterator():
            yield [bin_id.decode() for bin_id in ids.tolist()], photos
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
        raise DataError(
            f"shards/{shard.name}: every record must be whole and hold a photo, got {_reason(error)}. "
            "Run `bincount ingest` again; it rebuilds what is damaged."
        ) from error


@lru_cache
def _compile(image_px: int, fit: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """The image path as a graph: op by op a photo takes more than twice as long (docs/log/learn.md)."""
    return tf.function(
        lambda data: decode(data, image_px=image_px, fit=fit), input_signature=[tf.TensorSpec((), tf.string)]
    )


def _open(shard: Path) -> BinaryIO:
    try:
        return shard.open("rb")
    except FileNotFoundError:
        raise DataError(f"shards/{shard.name}: must exist, got no such file. Run `bincount ingest` again.") from None


def _reason(error: tf.errors.OpError) -> str:
    return error.message.splitlines()[0][:200]
