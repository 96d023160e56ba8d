"""Step 2 of an ingest: fetches photos and writes them into shards, one worker's share of a plan at a time."""

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
from bincount.dataset.bin_reader import Photo, photo_of
from bincount.dataset.job import IngestJob, check_disk_space, check_rejected, find_finished_ingest
from bincount.dataset.journal import open_entries, read_entry
from bincount.dataset.keys import photo_key
from bincount.dataset.manifest import Shard
from bincount.dataset.partition import Partition
from bincount.dataset.plan import Plan, PlannedBin, PlannedShard
from bincount.dataset.rejection import Rejection
from bincount.dataset.shards import PackedPhoto, ShardIndex, drop_shard, encode_example, frame_record, is_whole
from bincount.files import rename_damaged
from bincount.progress import ProgressLog
from bincount.settings import Settings
from bincount.store.interface import FetchedObject, Store
from bincount.store.open_store import open_store

_log = logging.getLogger(__name__)


def fetch(
    settings: Settings, *, plan: str, share: str = "1/1", store: Store | None = None, **options: Any
) -> dict[str, Any]:
    """Fetches one share of the planned shards.

    Shares may be fetched at the same time, on machines that share the workspace, and each may be repeated.

    Args:
        settings: Names workspace and buckets.
        plan: Name of the plan.
        share: Which share, such as "1/3".
        store: The source, where it is open already.
        **options: Fields of `FetchConfig`: workers and max_rejected.

    Returns:
        {"shards": how many were missing and have been written}.

    Raises:
        ConfigError: If a setting is wrong, nothing was planned, or the disk has too little room.
        DataError: If so many photos are faulty that nothing can be published.
        StoreError: If the source does not answer; finished shards are kept.
    """
    config, partition = FetchConfig(**options), Partition.parse(share)
    job = IngestJob.of(settings, plan)
    spec = job.read_spec()
    with job.locked(f"fetch {partition.number} of {partition.of}"):
        if find_finished_ingest(settings, plan, config.max_rejected):
            return {"shards": 0}
        store = store or open_store(spec.source, settings)
        return {"shards": _write_shards(store, settings, job, config, partition)}


def _write_shards(store: Store, settings: Settings, job: IngestJob, config: FetchConfig, partition: Partition) -> int:
    """Writes the planned shards of one share that are not finished, and returns how many it wrote."""
    plan, is_retry = Plan.read(job.plan), job.retry_marker.exists()
    planned = partition.pick(plan.shards)
    missing = {shard.key: shard for shard in planned if not _is_finished(store, settings, shard.key, is_retry)}
    if not missing:
        return 0
    photos = sum(shard.bins for shard in missing.values())
    size_bytes = sum(shard.size_bytes for shard in missing.values())
    settings.shards.mkdir(parents=True, exist_ok=True)
    # Framing and metadata add 5 % to the photos.
    check_disk_space(settings.shards, int(size_bytes * 1.05))
    text = "%s: fetching %d photos, about %.2f GB, into %d shards"
    _log.info(text, store.source, photos, size_bytes / 1e9, len(missing))
    keys = (photo_key(one.id) for _, bins in _bins_of(plan, missing) for one in bins)
    rejected = list(plan.rejected)
    most_bins = sum(shard.bins for shard in plan.shards) + sum(one.is_fault for one in rejected)
    with ExitStack() as stack:
        entries = stack.enter_context(open_entries(job.journal))
        progress = stack.enter_context(ProgressLog("photos", photos))
        # One stream over all shards: the requests for the next are under way while this one is finished.
        answers = stack.enter_context(closing(store.fetch(keys, workers=config.workers)))
        # A shard is shared while the next one is fetched.
        sharing = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="share"))
        shared: Future[None] | None = None
        for key, bins in _bins_of(plan, missing):
            partial = settings.shards / f".{key}.{job.folder.name}.part"
            index = _write_shard(partial, key, bins, answers, entries, progress)
            partial.replace(settings.shards / index.shard.name)
            index.write(settings, key)
            if shared is not None:
                shared.result()
            shared = sharing.submit(index.share, settings, key)
            rejected += index.rejected
            check_rejected(rejected, most_bins, config.max_rejected)
        if shared is not None:
            shared.result()
    if store.retries:
        _log.info("%s: %d requests were retried: %s", store.source, sum(store.retries.values()), dict(store.retries))
    return len(missing)


def _bins_of(plan: Plan, missing: Mapping[str, PlannedShard]) -> Iterator[tuple[str, list[PlannedBin]]]:
    """Key and bins of each missing shard, in order."""
    return ((shard.key, bins) for shard, bins in zip(plan.shards, plan.bins(), strict=True) if shard.key in missing)


def _is_finished(store: Store, settings: Settings, key: str, is_retry: bool) -> bool:
    index = ShardIndex.read(settings, key)
    if index is None:
        return False
    if not is_whole(settings, index.shard):
        rename_damaged(settings.shards / index.shard.name)
    elif not (is_retry and _has_sound_photo(store, index.rejected)):
        index.share(settings, key)  # a killed worker may not have come so far
        return True
    drop_shard(settings, key)
    return False


def _has_sound_photo(store: Store, rejected: list[Rejection]) -> bool:
    """True if one of the photos that were set aside is valid now."""
    answers = store.fetch([photo_key(one.id) for one in rejected], workers=8)
    return any(isinstance(photo_of(one.id, answer), Photo) for one, answer in zip(rejected, answers, strict=True))


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
    with path.open("wb", buffering=0) as file, closing(HashingWriter(file)) as out:
        # The bins come first in zip: it must not take an answer that belongs to the next shard.
        for planned, answer in zip(bins, answers, strict=False):
            photo = photo_of(planned.id, answer)
            progress.step(len(answer.data or b""), isinstance(photo, Rejection))
            if isinstance(photo, Rejection):
                rejected.append(photo)
                continue
            packed.append(PackedPhoto(photo.id, *photo.header.shown_px, len(photo.data), photo.etag, out.size_bytes))
            metadata = read_entry(entries, planned.metadata_offset)
            example = encode_example(bin_id=photo.id, recorded=planned.recorded, image=photo.data, metadata=metadata)
            out.append(frame_record(example))
        digest = out.finish()
    return ShardIndex(Shard(f"{key}.tfrecord", digest, out.size_bytes), packed, rejected)


# Hashed and written at a time: fewer, larger pieces leave the interpreter to the other threads.
_PIECE_BYTES = 4 << 20


class HashingWriter:
    """Writes and hashes chunks in order, in a thread of its own.

    Attributes:
        size_bytes: Bytes that were appended so far.
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
            self._submit()

    def finish(self) -> str:
        """Writes the rest, flushes it to disk and returns the SHA-256 of the whole file.

        Raises:
            OSError: If it could not be written.
        """
        self._submit()
        if self._last is not None:
            self._last.result()
        os.fsync(self._file.fileno())
        return self._hashed.hexdigest()

    def close(self) -> None:
        """Ends the writing thread."""
        self._pool.shutdown()

    def _submit(self) -> None:
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
