"""Fetches photos and packs them into shards."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from bincount.core.manifest import Shard
from bincount.core.photos import size_of_photo
from bincount.core.rejected import BadObject, Rejected
from bincount.core.shards import encode_example, frame
from bincount.edge.settings import Settings
from bincount.edge.store import Fetched, Store
from bincount.steps.ingesting.journal import Journal
from bincount.steps.ingesting.limits import check_rejected, check_room
from bincount.steps.ingesting.plan import Plan, Planned, PlannedShard
from bincount.steps.ingesting.progress import Progress
from bincount.steps.ingesting.request import Request, Work, write_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Packed:
    """One photo in a shard."""

    id: str
    width_px: int
    height_px: int
    size_bytes: int
    etag: str
    offset: int


@dataclass(frozen=True, slots=True)
class Index:
    """What is in a shard, kept in a file beside it: its existence says that the shard is complete."""

    shard: Shard
    packed: list[Packed]
    rejected: list[Rejected]

    def to_bytes(self) -> bytes:
        document = {
            "shard": asdict(self.shard),
            "packed": [astuple(one) for one in self.packed],
            "rejected": [astuple(one) for one in self.rejected],
        }
        return json.dumps(document, separators=(",", ":")).encode()


def read_index(settings: Settings, key: str) -> Index | None:
    """Reads a shard's index; None where the shard is not complete.

    A shard whose size or content differs from what was written is moved aside and not complete.
    """
    path = settings.shards / f"{key}.json"
    if not path.is_file():
        return None
    document = json.loads(path.read_bytes())
    return Index(
        Shard(**document["shard"]),
        [Packed(*row) for row in document["packed"]],
        [Rejected(*row) for row in document["rejected"]],
    )


def is_whole(settings: Settings, shard: Shard) -> bool:
    """Whether a shard's file is there, byte for byte what was written."""
    path = settings.shards / shard.name
    if not path.is_file() or path.stat().st_size != shard.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == shard.sha256


def drop_shard(settings: Settings, key: str) -> None:
    """Forgets a shard, so that it is written again."""
    (settings.shards / f"{key}.json").unlink(missing_ok=True)
    (settings.shards / f"{key}.tfrecord").unlink(missing_ok=True)


def write_shards(
    store: Store, settings: Settings, request: Request, plan: Plan, *, index: int, of: int, workers: int
) -> None:
    """Writes the planned shards that are not complete yet: every `of`-th, from the `index`-th on.

    Raises:
        ConfigError: If the disk has no room.
        DataError: If so many photos are faulty that nothing can be published.
        StoreError: If the store does not answer; complete shards are kept.
    """
    missing, photos, size_bytes, bins = [], 0, 0, 0
    for number, shard in enumerate(plan.shards()):
        bins += len(shard.bins)
        if number % of == index and not _is_complete(settings, shard.key):
            missing.append(number)
            photos += len(shard.bins)
            size_bytes += shard.size_bytes
    if not missing:
        return
    settings.shards.mkdir(parents=True, exist_ok=True)
    # Framing and metadata add 5 % to the photos.
    check_room(settings.shards, int(size_bytes * 1.05))
    log.info(
        "%s: fetching %d photos, about %.2f GB, into %d shards", store.source, photos, size_bytes / 1e9, len(missing)
    )
    wanted = set(missing)
    keys = (
        f"bin-images/{planned.id}.jpg"
        for number, shard in enumerate(plan.shards())
        if number in wanted
        for planned in shard.bins
    )
    # One stream over all shards: the requests for the next one are under way while this one is finished.
    fetched = store.fetch(keys, workers=workers)
    rejected = list(plan.rejected)
    faulty = sum(one.is_fault for one in rejected)
    work = Work.of(settings, request.name)
    with Journal(work.journal) as journal, Progress("photos", photos) as progress:
        for number, shard in enumerate(plan.shards()):
            if number not in wanted:
                continue
            part = settings.shards / f".{shard.key}.{request.name}.part"
            written = _write_shard(part, shard, fetched, journal, progress)
            part.replace(settings.shards / written.shard.name)
            write_whole(settings.shards / f"{shard.key}.json", written.to_bytes())
            rejected += written.rejected
            if written.rejected:
                check_rejected(rejected, bins + faulty, request.max_rejected)
    if store.retries:
        log.info("%s: asked again %d times: %s", store.source, store.retries.total(), dict(store.retries))


def _is_complete(settings: Settings, key: str) -> bool:
    found = read_index(settings, key)
    if found is None:
        return False
    if is_whole(settings, found.shard):
        return True
    log.warning("%s: is not what was written; it is fetched again", found.shard.name)
    drop_shard(settings, key)
    return False


def _write_shard(
    path: Path, shard: PlannedShard, fetched: Iterator[Fetched], journal: Journal, progress: Progress
) -> Index:
    packed: list[Packed] = []
    rejected: list[Rejected] = []
    hashed = hashlib.sha256()
    offset = 0
    with path.open("wb") as file:
        for planned, answer in zip(shard.bins, fetched, strict=False):
            found = _judge(planned, answer)
            progress.step(len(answer.data or b""), isinstance(found, Rejected))
            if isinstance(found, Rejected):
                rejected.append(found)
                continue
            framed = _frame(planned, answer.data or b"", journal)
            packed.append(Packed(planned.id, *found, len(answer.data or b""), answer.etag, offset))
            file.write(framed)
            hashed.update(framed)
            offset += len(framed)
        file.flush()
        os.fsync(file.fileno())
    return Index(Shard(f"{shard.key}.tfrecord", hashed.hexdigest(), offset), packed, rejected)


def _judge(planned: Planned, answer: Fetched) -> tuple[int, int] | Rejected:
    """The photo's width and height, or why it is set aside."""
    if answer.data is None:
        return Rejected(planned.id, f"photo is {answer.problem}")
    try:
        return size_of_photo(planned.id, answer.data)
    except BadObject as error:
        return Rejected(planned.id, error.reason, str(error))


def _frame(planned: Planned, photo: bytes, journal: Journal) -> bytes:
    metadata = journal.read(planned.place)
    return frame(encode_example(bin_id=planned.id, recorded=planned.recorded, image=photo, metadata=metadata))


def count_faults(rejected: Sequence[Rejected]) -> int:
    """How many of them are at fault themselves."""
    return sum(one.is_fault for one in rejected)
