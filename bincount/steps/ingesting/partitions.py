"""An ingest in three moves, so that many workers can share the middle one."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bincount.core.counts import Counts
from bincount.core.errors import ConfigError, DataError
from bincount.core.manifest import Manifest
from bincount.edge.settings import Settings
from bincount.edge.store import Store, open_store
from bincount.steps.ingesting.candidates import find_candidates
from bincount.steps.ingesting.join import join_shards
from bincount.steps.ingesting.limits import MAX_REJECTED, WORKERS, check_share
from bincount.steps.ingesting.plan import Plan, make_plan
from bincount.steps.ingesting.request import Request, Work
from bincount.steps.ingesting.shard_index import is_whole
from bincount.steps.ingesting.shards import write_shards

log = logging.getLogger(__name__)

_NO_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def plan_partitions(
    settings: Settings,
    *,
    source: str,
    ids: str | None = None,
    counts: str = "1-5",
    limit: int | None = None,
    seed: int = 0,
    workers: int = WORKERS,
    max_rejected: float = MAX_REJECTED,
) -> str:
    """Reads metadata and decides which bins go into which shard.

    Returns:
        The request's name, for `fetch_partition` and `join_partitions`.
    """
    store = open_store(source, settings)
    candidates = find_candidates(store, ids)
    request = Request(
        source=store.source,
        candidates=candidates.digest,
        counts=str(Counts.parse(counts)),
        limit=limit,
        seed=None if limit is None else seed,
    )
    work = Work.of(settings, request.name)
    with writable(settings), work.locked("plan"), _doubting(work):
        if find_finished(settings, request.name, max_rejected) is None:
            make_plan(store, settings, request, candidates, workers=workers, max_rejected=max_rejected)
    return request.name


def fetch_partition(
    settings: Settings,
    request: str,
    *,
    index: int = 0,
    of: int = 1,
    workers: int = WORKERS,
    max_rejected: float = MAX_REJECTED,
) -> None:
    """Fetches every `of`-th planned shard, from the `index`-th on.

    Partitions may run at the same time, on machines that share the workspace.
    """
    if not 0 <= index < of:
        raise ConfigError(f"partition: must be one of 0 to {of - 1}, got {index!r}. Check `partitions`.")
    if find_finished(settings, request, max_rejected) is not None:
        return
    work = Work.of(settings, request)
    with writable(settings), work.locked(f"fetch {index} of {of}"), _doubting(work):
        asked = work.read_request()
        write_shards(
            _open_again(settings, asked),
            settings,
            asked,
            _planned(work),
            index=index,
            of=of,
            workers=workers,
            max_rejected=max_rejected,
        )


def join_partitions(settings: Settings, request: str, *, max_rejected: float = MAX_REJECTED) -> dict[str, Any]:
    """Publishes the manifest of all partitions, the same one however many there were.

    Returns:
        {"manifest", "bins", "rejected", "siblings", "parts"}.
    """
    work = Work.of(settings, request)
    with writable(settings), work.locked("join"), _doubting(work):
        done = find_finished(settings, request, max_rejected)
        if done is not None:
            log.info("Manifest %s is complete already", done["manifest"])
            return done
        return join_shards(settings, work.read_request(), _planned(work), max_rejected=max_rejected)


def find_finished(settings: Settings, request: str, max_rejected: float) -> dict[str, Any] | None:
    """The summary of a request that was published and is whole, None where it is not.

    Raises:
        DataError: If more of its bins are faulty than are allowed this time.
    """
    done = Work.of(settings, request).read_done()
    if done is None or not (settings.manifests / f"{done['manifest']}.jsonl").is_file():
        return None
    shards = Manifest.read(settings.manifests, done["manifest"]).shards
    if not all(is_whole(settings, shard) for shard in shards):
        return None
    check_share(done["rejected"], done["bins"] + done["rejected"], max_rejected, f"see {done['manifest']}.rejected.csv")
    return done


def _planned(work: Work) -> Plan:
    plan = Plan.read(work.plan)
    if plan is None:
        raise ConfigError(f"request: must be planned first, got {work.folder.name!r} without a plan. Plan it again.")
    return plan


def _open_again(settings: Settings, request: Request) -> Store:
    return open_store(request.source, settings)


@contextmanager
def _doubting(work: Work) -> Iterator[None]:
    """Notes that bins were found faulty, so that the next attempt looks at them again."""
    try:
        yield
    except DataError:
        work.doubt.touch()
        raise


@contextmanager
def writable(settings: Settings) -> Iterator[None]:
    """Says what to do where the workspace cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_WRITE:
            raise
        raise ConfigError(
            f"{settings.workspace}: must be writable and have room, got {error.strerror!r}. "
            "Free some room or change its rights, then run again; what was fetched is kept."
        ) from error
