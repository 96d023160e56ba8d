"""Fetches photos and packs them into shards."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import BinaryIO

from bincount.core.files import set_aside
from bincount.core.manifest import Shard
from bincount.core.photos import size_of_photo
from bincount.core.rejected import BadObject, Rejected
from bincount.core.shards import encode_example, frame
from bincount.core.share import Share
from bincount.edge.settings import Settings
from bincount.edge.store import Fetched, Store
from bincount.steps.ingesting.asked import Bounds
from bincount.steps.ingesting.hashed_file import HashedFile
from bincount.steps.ingesting.journal import open_entries, read_entry
from bincount.steps.ingesting.limits import check_rejected, check_room
from bincount.steps.ingesting.plan import Plan, Planned, PlannedShard
from bincount.steps.ingesting.progress import Progress
from bincount.steps.ingesting.request import Request, Work
from bincount.steps.ingesting.shard_index import Packed, ShardIndex, drop_shard, is_whole

log = logging.getLogger(__name__)


def write_shards(
    store: Store,
    settings: Settings,
    request: Request,
    bounds: Bounds,
    share: Share,
) -> int:
    """Writes the planned shards of one share that are not finished.

    Returns:
        How many it wrote.

    Raises:
        ConfigError: If nothing was planned or the disk has no room.
        DataError: If so many photos are faulty that nothing can be published.
        StoreError: If the store does not answer; finished shards are kept.
    """
    work = Work.of(settings, request.name)
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
    log.info(text, store.source, photos, size_bytes / 1e9, len(missing))
    keys = (f"bin-images/{planned.id}.jpg" for _, bins in _bins_of(plan, missing) for planned in bins)
    rejected = list(plan.rejected)
    judged = sum(shard.bins for shard in plan.shards) + sum(one.is_fault for one in rejected)
    with ExitStack() as stack:
        entries = stack.enter_context(open_entries(work.journal))
        progress = stack.enter_context(Progress("photos", photos))
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
        log.info("%s: asked again %d times: %s", store.source, sum(store.retries.values()), dict(store.retries))
    return len(missing)


def _bins_of(plan: Plan, missing: Mapping[str, PlannedShard]) -> Iterator[tuple[str, list[Planned]]]:
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


def _is_mended(store: Store, rejected: list[Rejected]) -> bool:
    """Whether one of the photos that were set aside is sound by now."""
    keys = [f"bin-images/{one.id}.jpg" for one in rejected]
    answers = store.fetch(keys, workers=8)
    return any(not isinstance(_judge(one.id, answer), Rejected) for one, answer in zip(rejected, answers, strict=True))


def _write_shard(
    path: Path, key: str, bins: list[Planned], answers: Iterator[Fetched], entries: BinaryIO, progress: Progress
) -> ShardIndex:
    packed: list[Packed] = []
    rejected: list[Rejected] = []
    with path.open("wb", buffering=0) as file, closing(HashedFile(file)) as out:
        # The bins come first in zip: it must not take an answer that belongs to the next shard.
        for planned, answer in zip(bins, answers, strict=False):
            found = _judge(planned.id, answer)
            progress.step(len(answer.data or b""), isinstance(found, Rejected))
            if isinstance(found, Rejected):
                rejected.append(found)
                continue
            photo = answer.data or b""
            packed.append(Packed(planned.id, *found, len(photo), answer.etag, out.size_bytes))
            out.append(_frame(planned, photo, read_entry(entries, planned.place)))
        digest = out.finish()
    return ShardIndex(Shard(f"{key}.tfrecord", digest, out.size_bytes), packed, rejected)


def _judge(bin_id: str, answer: Fetched) -> tuple[int, int] | Rejected:
    """The photo's width and height, or why it is set aside."""
    if answer.data is None:
        return Rejected(bin_id, f"photo is {answer.problem}")
    try:
        return size_of_photo(bin_id, answer.data)
    except BadObject as error:
        return Rejected(bin_id, error.reason, str(error))


def _frame(planned: Planned, photo: bytes, metadata: bytes) -> bytes:
    return frame(encode_example(bin_id=planned.id, recorded=planned.recorded, image=photo, metadata=metadata))
