"""Extraction of features: a frozen network sees each photo once, however many heads are tried on it."""

from __future__ import annotations

import contextlib
import mmap
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from bincount.dataset.manifest import Manifest, Record, Shard
from bincount.errors import DataError
from bincount.files import read_json, rename_damaged, sha256_of_file, write_json
from bincount.learn.devices import mixed_precision, on_gpu
from bincount.learn.engine import Network
from bincount.learn.photo_batches import ids_of, read_photos

VIEWS = 2
"""Each photo as it is and mirrored: the one change that surely keeps its count."""

Progress = Callable[[int, int, float], None]
"""Told the photos done, the photos there are, and photos a second."""

Forward = Callable[[np.ndarray], np.ndarray]
"""Photos (B <= 32, px, px, 3) uint8 to features (B, VIEWS, D) float16."""

_BATCH = 32
_LARGEST = 65_504.0  # of float16


class Examples(NamedTuple):
    """Bins of one part, in the manifest's order.

    Attributes:
        features: (N, VIEWS, D) float16; of `read_examples` a mapped file, so that memory does not grow with N.
        classes: (N,) int32, index of each recorded count among the manifest's counts.
    """

    features: np.ndarray
    classes: np.ndarray


def missing_features(folder: Path, shards: Iterable[Shard]) -> list[Shard]:
    """The shards whose features are absent from the cache, or not what was written."""
    return [shard for shard in shards if not _is_whole(_array_path(folder, shard))]


def extract_features(
    folder: Path,
    shards: Mapping[Shard, Path],
    forward: Forward,
    *,
    width: int,
    image_px: int,
    fit: str,
    alone: Callable[[tuple[Path, Path]], AbstractContextManager[None]] = lambda files: contextlib.nullcontext(),
    on_progress: Progress = lambda done, total, rate: None,
) -> None:
    """Computes the features of all photos of some shards, in order.

    Each shard's file is published in one step when it is complete; a damaged one
    is set aside. Batches of a shard that a killed run had computed are used.

    Args:
        folder: The cache of this network with these weights and image settings.
        shards: The shards to compute and their paths.
        forward: Computes the features of a batch.
        width: How many features a photo has.
        image_px: Side of the square photos.
        fit: "pad" or "squash".
        alone: A lock on a shard's files; what other processes computed before is used.
        on_progress: Called after each batch.

    Raises:
        DataError: If a shard or a photo in it is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids = {shard: ids_of(path) for shard, path in shards.items()}
    total, done, fresh, started = sum(map(len, ids.values())), 0, 0, time.monotonic()
    row_bytes = VIEWS * width * 2
    for shard, path in shards.items():
        final, note = files_of(folder, shard)
        partial = final.with_suffix(".partial")
        with alone((final, note)):
            if _is_whole(final):
                done += len(ids[shard])
                continue
            if _note_of(final):
                rename_damaged(final)
            rows = partial.stat().st_size // row_bytes if partial.exists() else 0
            done += rows
            with partial.open("ab") as file:
                file.truncate(rows * row_bytes)
                for batch_ids, photos in read_photos(path, image_px=image_px, fit=fit, batch=_BATCH, skip=rows):
                    if batch_ids != ids[shard][rows : rows + len(batch_ids)]:
                        raise DataError(
                            f"shards/{path.name}: must stay as it is while it is read, got other bins. "
                            "Run prepare again."
                        )
                    file.write(forward(photos).tobytes())
                    rows += len(batch_ids)
                    fresh += len(batch_ids)
                    done += len(batch_ids)
                    on_progress(done, total, fresh / (time.monotonic() - started))
            write_features(np.fromfile(partial, np.float16).reshape(len(ids[shard]), VIEWS, -1), ids[shard], final)
            partial.unlink()


def read_examples(folder: Path, manifest: Manifest, part: str) -> Examples:
    """Reads the features and counts of one part, each record exactly once.

    Raises:
        DataError: If a record has no features.
    """
    records = manifest.part(part)
    classes = np.array([manifest.counts.index_of(record.recorded) for record in records], np.int32)
    # Records are in id order and shards in the order of their records, so the pieces follow each other.
    return Examples(map_arrays(_pieces(folder, manifest, records)), classes)


def join_examples(first: Examples, second: Examples) -> Examples:
    """The bins of two parts, one after the other."""
    pieces = (
        features[start : start + _MAPPED_ROWS]
        for features in (first.features, second.features)
        for start in range(0, len(features), _MAPPED_ROWS)
    )
    return Examples(map_arrays(pieces), np.concatenate([first.classes, second.classes]))


_MAPPED_ROWS = 4096  # copied at a time


def map_arrays(pieces: Iterable[np.ndarray]) -> np.ndarray:
    """Arrays (n, ...) float16 one after the other, read only, in a file without a name."""
    shape: tuple[int, ...] = ()
    with tempfile.TemporaryFile() as file:
        for piece in pieces:
            file.write(piece.tobytes())
            shape = piece.shape[1:]
            release(piece)
        file.flush()
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    return np.frombuffer(mapping, np.float16).reshape(-1, *shape)


def release(array: np.ndarray) -> None:
    """Gives the memory of a mapped file's pages back; they are read again when they are used."""
    base: object = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)


def _pieces(folder: Path, manifest: Manifest, records: Sequence[Record]) -> Iterator[np.ndarray]:
    for index, shard in enumerate(manifest.shards):
        here = [record.id for record in records if record.shard == index]
        if here:
            array = np.load(_array_path(folder, shard), mmap_mode="r", allow_pickle=False)
            row_of = {bin_id: row for row, bin_id in enumerate(_note_of(_array_path(folder, shard))["ids"])}
            missing = [bin_id for bin_id in here if bin_id not in row_of]
            if missing:
                raise DataError(
                    f"shards/{shard.name}: must hold every bin that the manifest lists for it, "
                    f"got none of {missing[:3]}. Run `bincount ingest` again."
                )
            yield array[[row_of[bin_id] for bin_id in here]]


def engine_forward(network: Network) -> Forward:
    """Both views of a photo through a network of `learn.engine`."""

    def features_of(photos: np.ndarray) -> np.ndarray:
        size = network.batches[-1]
        return np.concatenate([network(photos[start : start + size])[0] for start in range(0, len(photos), size)])

    def forward(photos: np.ndarray) -> np.ndarray:
        views = [features_of(view) for view in (photos, photos[:, :, ::-1])]
        return np.clip(np.stack(views, axis=1), -_LARGEST, _LARGEST).astype(np.float16)

    return forward


def keras_forward(model: keras.Model, image_px: int) -> Forward:
    """Both views of a photo through a Keras network, as one graph for one batch size."""

    @tf.function(
        input_signature=[tf.TensorSpec((_BATCH, image_px, image_px, 3), tf.uint8)],
        jit_compile=on_gpu(),  # on a processor oneDNN is faster than XLA
    )
    def graph(photos: tf.Tensor) -> tf.Tensor:
        with mixed_precision(model) if on_gpu() else contextlib.nullcontext():
            views = [model(view, training=False) for view in (photos, tf.reverse(photos, [2]))]
        return tf.cast(tf.clip_by_value(tf.stack(views, axis=1), -_LARGEST, _LARGEST), tf.float16)

    def forward(photos: np.ndarray) -> np.ndarray:
        short = _BATCH - len(photos)
        return graph(np.pad(photos, [(0, short), (0, 0), (0, 0), (0, 0)])).numpy()[: len(photos)]

    return forward


def files_of(folder: Path, shard: Shard) -> tuple[Path, Path]:
    """The features of a shard, and the note without which they do not count."""
    array = _array_path(folder, shard)
    return array, array.with_suffix(".json")


def _array_path(folder: Path, shard: Shard) -> Path:
    return folder / f"{shard.sha256[:16]}.npy"


def _note_of(path: Path) -> dict:
    return read_json(path.with_suffix(".json")) or {}


def write_features(array: np.ndarray, ids: list[str], path: Path) -> None:
    """Writes a shard's features in one step.

    Args:
        array: float16 (N, views, D).
        ids: (N,) the bin of each row.
        path: The array; a JSON file beside it has its ids and digest.
    """
    beside = path.with_suffix(".beside.npy")
    np.save(beside, array)
    note = {"ids": ids, "sha256": sha256_of_file(beside)}
    beside.replace(path)
    write_json(path.with_suffix(".json"), note)  # last: an array without its note does not count


def _is_whole(path: Path) -> bool:
    digest = _note_of(path).get("sha256")
    return digest is not None and path.is_file() and digest == sha256_of_file(path)
