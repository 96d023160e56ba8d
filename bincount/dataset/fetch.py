"""Fetches one worker's share of a planned ingest."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, BinaryIO

from bincount.config import FetchConfig
from bincount.dataset.job import IngestJob, IngestRequest, check_rejected, check_room, find_finished
from bincount.dataset.journal import open_entries, read_entry
from bincount.dataset.manifest import Shard
from bincount.dataset.partition import Partition
from bincount.dataset.plan import Plan, PlannedBin, PlannedShard
from bincount.dataset.reader import PHOTOS, Photo, read_photo
from bincount.dataset.rejection import Rejection
from bincount.dataset.shards import PackedPhoto, ShardIndex, drop_shard, encode_example, frame, is_whole
from bincount.files import set_aside
from bincount.progress import ProgressLog
from bincount.settings import Settings
from bincount.store.interface import FetchedObject, Store
from bincount.store.open_store import open_store

_log = logging.getLogger(__name__)


def fetch(
    settings: Settings, *, plan: str, share: str = "1/1", store: Store | None = None, **bounds: Any
) -> dict[str, Any]:
    """Fetches one share of the planned shards.

    The shares may be fetched at the same time, on machines that share the workspace, and each again on its own.

    Args:
        settings: Names workspace and buckets.
        plan: Name of the plan.
        share: Which share, such as "1/3".
        store: The source, where it is open already.
        **bounds: What `FetchConfig` takes: workers and max_rejected.

    Returns:
        {"shards": how many were missing and are there now}.

    Raises:
        ConfigError: If a setting is wrong, nothing was planned, or the disk has no room.
        DataError: If so many photos are faulty that nothing can be published.
        StoreError: If the source does not answer; finished shards are kept.
    """
    within, part = FetchConfig(**bounds), Partition.parse(share)
    work = IngestJob.of(settings, plan)
    asked = work.read_request()
    with work.doing(f"fetch {part.number} of {part.of}"):
        if find_finished(settings, plan, within.max_rejected):
            return {"shards": 0}
        store = store or open_store(asked.source, settings)
        return {"shards": write_shards(store, settings, asked, within, part)}


def write_shards(
    store: Store,
    settings: Settings,
    request: IngestRequest,
    bounds: FetchConfig,
    share: Partition,
) -> int:
    """Writes the planned shards of one share that are not finished.

    Returns:
        How many it wrote.

    Raises:
        ConfigError: If nothing was planned or the disk has no room.
        DataError: If so many photos are faulty that nothing can be published.
        StoreError: If the store does not answer; finished shards are kept.
    """
    work = IngestJob.of(settings, request.name)
    plan, doubted = Plan.read(work.plan), work.doubt.exists()
    mine = share.pick(plan.shards)
    missing = {shard.key: shard for shard in mine if not _is_finished(store, settings, shard.key, doubted)}
    if not missing:
        return 0
    photos = sum(shard.bins for shard in missing.values())
    size_bytes = sum(shard.size_bytes for shard in missing.values())
    settings.shards.mkdir(parents=True, exist_ok=True)
    # Framing and metadata add 5 % to the photos.
    check_room(settings.shards, int(size_bytes * 1.05))
    text = "%s: fetching %d photos, about %.2f GB, into %d shards"
    _log.info(text, store.source, photos, size_bytes / 1e9, len(missing))
    keys = (PHOTOS.key(planned.id) for _, bins in _bins_of(plan, missing) for planned in bins)
    rejected = list(plan.rejected)
    judged = sum(shard.bins for shard in plan.shards) + sum(one.is_fault for one in rejected)
    with ExitStack() as stack:
        entries = stack.enter_context(open_entries(work.journal))
        progress = stack.enter_context(ProgressLog("photos", photos))
        # One stream over all shards: the requests for the next are under way while this one is finished.
        answers = stack.enter_context(closing(store.fetch(keys, workers=bounds.workers)))
        for key, bins in _bins_of(plan, missing):
            part = settings.shards / f".{key}.{request.name}.part"
            written = _write_shard(part, key, bins, answers, entries, progress)
            part.replace(settings.shards / written.shard.name)
            written.write(settings, key)
            rejected += written.rejected
            check_rejected(rejected, judged, bounds.max_rejected)
    if store.retries:
        _log.info("%s: asked again %d times: %s", store.source, sum(store.retries.values()), dict(store.retries))
    return len(missing)


def _bins_of(plan: Plan, missing: Mapping[str, PlannedShard]) -> Iterator[tuple[str, list[PlannedBin]]]:
    """Key and bins of each missing shard, in order."""
    return ((shard.key, bins) for shard, bins in zip(plan.shards, plan.bins(), strict=True) if shard.key in missing)


def _is_finished(store: Store, settings: Settings, key: str, doubted: bool) -> bool:
    found = ShardIndex.read(settings, key)
    if found is None:
        return False
    if not is_whole(settings, found.shard):
        set_aside(settings.shards / found.shard.name)
    elif not (doubted and _is_mended(store, found.rejected)):
        return True
    drop_shard(settings, key)
    return False


def _is_mended(store: Store, rejected: list[Rejection]) -> bool:
    """Whether one of the photos that were set aside is sound by now."""
    keys = [PHOTOS.key(one.id) for one in rejected]
    answers = store.fetch(keys, workers=8)
    photos = (read_photo(one.id, answer) for one, answer in zip(rejected, answers, strict=True))
    return any(isinstance(photo, Photo) for photo in photos)


def _write_shard(
    path: Path,
    key: str,
    bins: list[PlannedBin],
    answers: Iterator[FetchedObject],
    entries: BinaryIO,
    progress: ProgressLog,
) -> ShardIndex:
    packed: list[PackedPhoto] = []
    rejected: list[Rejection] = []
    with path.open("wb", buffering=0) as file, closing(HashedFile(file)) as out:
        # The bins come first in zip: it must not take an answer that belongs to the next shard.
        for planned, answer in zip(bins, answers, strict=False):
            photo = read_photo(planned.id, answer)
            progress.step(len(answer.data or b""), isinstance(photo, Rejection))
            if isinstance(photo, Rejection):
                rejected.append(photo)
                continue
            size_px = (photo.width_px, photo.height_px)
            packed.append(PackedPhoto(planned.id, *size_px, len(photo.data), photo.etag, out.size_bytes))
            out.append(_frame(planned, photo.data, read_entry(entries, planned.place)))
        digest = out.finish()
    return ShardIndex(Shard(f"{key}.tfrecord", digest, out.size_bytes), packed, rejected)


def _frame(planned: PlannedBin, photo: bytes, metadata: bytes) -> bytes:
    return frame(encode_example(bin_id=planned.id, recorded=planned.recorded, image=photo, metadata=metadata))


# Hashed and written at a time: fewer, larger pieces leave the interpreter to the other threads.
_PIECE_BYTES = 4 << 20


class HashedFile:
    """Writes what is appended, in order, a piece behind.

    Attributes:
        size_bytes: What was appended so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Takes an unbuffered file, opened for writing."""
        self._file = file
        self._chunks: list[bytes] = []
        self._gathered = 0
        self._hashed = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._last: Future[None] | None = None
        self.size_bytes = 0

    def append(self, chunk: bytes) -> None:
        """Adds a chunk.

        Raises:
            OSError: If an earlier piece could not be written.
        """
        self._chunks.append(chunk)
        self._gathered += len(chunk)
        self.size_bytes += len(chunk)
        if self._gathered >= _PIECE_BYTES:
            self._hand_over()

    def finish(self) -> str:
        """Writes the rest for good and returns the SHA-256 of the whole file.

        Raises:
            OSError: If it could not be written.
        """
        self._hand_over()
        if self._last is not None:
            self._last.result()
        os.fsync(self._file.fileno())
        return self._hashed.hexdigest()

    def close(self) -> None:
        """Ends the writing thread."""
        self._pool.shutdown()

    def _hand_over(self) -> None:
        # One piece under way and one being gathered: no more is held in memory.
        if self._last is not None:
            self._last.result()
        self._last = self._pool.submit(self._write, self._chunks)
        self._chunks, self._gathered = [], 0

    def _write(self, chunks: list[bytes]) -> None:
        piece = memoryview(b"".join(chunks))
        self._hashed.update(piece)
        while piece:  # a raw file may take less than it was given
            piece = piece[self._file.write(piece) :]
