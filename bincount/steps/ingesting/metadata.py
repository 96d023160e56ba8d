"""Metadata first: the photo of an unwanted bin is never fetched."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from bincount.core.counts import Counts
from bincount.core.plan import draw_order
from bincount.core.records import Metadata, parse_metadata
from bincount.core.rejected import BadObject, Rejected
from bincount.edge.store import Fetched, Store
from bincount.steps.ingesting.candidates import Candidates
from bincount.steps.ingesting.journal import Journal
from bincount.steps.ingesting.limits import check_rejected
from bincount.steps.ingesting.progress import Progress
from bincount.steps.ingesting.request import Request

log = logging.getLogger(__name__)


@dataclass
class Read:
    """What reading metadata brought.

    Attributes:
        metadata: Metadata of each bin that was looked at and is sound, in the order they were looked at.
        places: Where each of them is in the journal.
        wanted: Ids whose count is wanted.
        rejected: What was set aside.
    """

    metadata: dict[str, Metadata] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    rejected: list[Rejected] = field(default_factory=list)


def read_metadata(store: Store, request: Request, candidates: Candidates, journal: Journal, *, workers: int) -> Read:
    """Reads the metadata of candidates until enough are wanted.

    With a limit, candidates are taken in an order drawn from the seed until so
    many are wanted; which bins those are does not depend on what arrives first.

    Raises:
        DataError: If so many are faulty that nothing could be published.
    """
    counts, read = Counts.parse(request.counts), Read()
    ids = candidates.ids if request.limit is None else draw_order(candidates.ids, request.seed or 0)
    asked = (bin_id for bin_id in ids if bin_id not in journal.places and bin_id not in candidates.halves)
    fetched = store.fetch((f"metadata/{bin_id}.json" for bin_id in asked), workers=workers)
    with Progress("metadata", len(ids)) as progress:
        for bin_id in ids:
            size = _take(bin_id, candidates, journal, fetched, read)
            rejected = bool(read.rejected) and read.rejected[-1].id == bin_id
            progress.step(size, rejected)
            if rejected:
                most = len(ids) if request.limit is None else request.limit + len(read.rejected)
                check_rejected(read.rejected, most, request.max_rejected)
            elif counts.index_of(read.metadata[bin_id].recorded) is not None:
                read.wanted.add(bin_id)
                if len(read.wanted) == request.limit:
                    break
    if isinstance(fetched, Iterator) and hasattr(fetched, "close"):
        fetched.close()
    if request.limit is not None and len(read.wanted) < request.limit:
        log.warning("%s: %d bins have a count of %s, fewer than the limit of %d", *_short(read, request))
    return read


def _short(read: Read, request: Request) -> tuple[str, int, str, int | None]:
    return request.source, len(read.wanted), request.counts, request.limit


def _take(bin_id: str, candidates: Candidates, journal: Journal, fetched: Iterator[Fetched], read: Read) -> int:
    """Takes one bin's metadata from the journal or the store; returns the bytes that were fetched."""
    if bin_id in candidates.halves:
        read.rejected.append(Rejected(bin_id, candidates.halves[bin_id]))
        return 0
    place = journal.places.get(bin_id)
    if place is not None:
        _note(bin_id, parse_metadata(bin_id, journal.read(place)), place, read)
        return 0
    answer = next(fetched)
    if answer.data is None:
        read.rejected.append(Rejected(bin_id, f"metadata is {answer.problem}"))
        return 0
    try:
        metadata = parse_metadata(bin_id, answer.data)
    except BadObject as error:
        read.rejected.append(Rejected(bin_id, error.reason, str(error)))
    else:
        _note(bin_id, metadata, journal.append(bin_id, answer.data), read)
    return len(answer.data)


def _note(bin_id: str, metadata: Metadata, place: int, read: Read) -> None:
    # The same products return thousands of times: one string for each.
    read.metadata[bin_id] = Metadata(metadata.recorded, tuple(map(sys.intern, metadata.skus)))
    read.places[bin_id] = place
