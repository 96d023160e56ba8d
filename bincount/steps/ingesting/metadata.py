"""Metadata first: the photo of an unwanted bin is never fetched."""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from bincount.core.counts import Counts
from bincount.core.plan import draw_order
from bincount.core.records import Metadata, parse_metadata
from bincount.core.rejected import BadObject, Rejected
from bincount.edge.store import Fetched, Store
from bincount.steps.ingesting.asked import Bounds
from bincount.steps.ingesting.candidates import Candidates
from bincount.steps.ingesting.journal import Journal, open_entries, read_entry
from bincount.steps.ingesting.limits import check_rejected
from bincount.steps.ingesting.progress import Progress
from bincount.steps.ingesting.request import Request

log = logging.getLogger(__name__)


@dataclass
class Read:
    """What reading metadata brought.

    Attributes:
        skus: Products of each bin that was looked at and is sound.
        wanted: Recorded count of those whose count is wanted.
        rejected: What was set aside.
    """

    skus: dict[str, tuple[str, ...]] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)


def read_metadata(store: Store, request: Request, candidates: Candidates, journal: Journal, bounds: Bounds) -> Read:
    """Reads the metadata of candidates until enough are wanted.

    With a limit, candidates are taken in an order drawn from the seed until so
    many are wanted; which bins those are does not depend on what arrives first.

    Args:
        store: Where they are.
        request: Which counts are wanted, how many, and the seed.
        candidates: What to choose from.
        journal: What was read before; sound metadata are added to it.
        bounds: How many to ask for at a time, and how many may be faulty.

    Raises:
        DataError: If so many are faulty that nothing could be published.
        StoreError: If the store does not answer.
    """
    counts, read = Counts.parse(request.counts), Read()
    ids = candidates.ids if request.limit is None else draw_order(candidates.ids, request.seed or 0)
    with (
        Progress("metadata", len(ids)) as progress,
        closing(_read(store, ids, candidates, journal, bounds.workers)) as found,
    ):
        for bin_id, metadata, fetched_bytes in found:
            progress.step(fetched_bytes, isinstance(metadata, Rejected))
            if isinstance(metadata, Rejected):
                read.rejected.append(metadata)
                most = len(ids) if request.limit is None else request.limit + len(read.rejected)
                check_rejected(read.rejected, most, bounds.max_rejected)
                continue
            # The same products return thousands of times: one string for each.
            read.skus[bin_id] = tuple(map(sys.intern, metadata.skus))
            if counts.index_of(metadata.recorded) is not None:
                read.wanted[bin_id] = metadata.recorded
                if len(read.wanted) == request.limit:
                    break
    if request.limit is not None and len(read.wanted) < request.limit:
        text = "%s: %d bins have a count of %s, fewer than the limit of %d"
        log.warning(text, request.source, len(read.wanted), counts, request.limit)
    return read


def _read(
    store: Store, ids: Sequence[str], candidates: Candidates, journal: Journal, workers: int
) -> Generator[tuple[str, Metadata | Rejected, int], None, None]:
    """Yields each id's metadata or why it is set aside, and the bytes that were fetched for it."""
    before = set(journal.places)
    asked = (f"metadata/{bin_id}.json" for bin_id in ids if bin_id not in before and bin_id not in candidates.halves)
    with ExitStack() as stack:
        entries = stack.enter_context(open_entries(journal.path))
        answers = stack.enter_context(closing(store.fetch(asked, workers=workers)))
        for bin_id in ids:
            if bin_id in candidates.halves:
                yield bin_id, Rejected(bin_id, candidates.halves[bin_id]), 0
            elif bin_id in before:
                yield bin_id, _parse(bin_id, read_entry(entries, journal.places[bin_id])), 0
            else:
                yield bin_id, *_judge(bin_id, next(answers), journal)


def _judge(bin_id: str, answer: Fetched, journal: Journal) -> tuple[Metadata | Rejected, int]:
    if answer.data is None:
        return Rejected(bin_id, f"metadata is {answer.problem}"), 0
    metadata = _parse(bin_id, answer.data)
    if isinstance(metadata, Metadata):
        journal.append(bin_id, answer.data)
    return metadata, len(answer.data)


def _parse(bin_id: str, data: bytes) -> Metadata | Rejected:
    try:
        return parse_metadata(bin_id, data)
    except BadObject as error:
        return Rejected(bin_id, error.reason, str(error))
