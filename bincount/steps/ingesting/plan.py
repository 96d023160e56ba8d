"""Plans an ingest: which bins go into which shard, before the first photo is fetched."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from itertools import islice
from pathlib import Path

from bincount.core.counts import Counts
from bincount.core.digest import digest_of
from bincount.core.plan import PHOTO_BYTES, check_parts, cut_shards, place_bins
from bincount.core.rejected import SIBLING, Rejected
from bincount.edge.settings import Settings
from bincount.edge.store import Store
from bincount.steps.ingesting.candidates import Candidates
from bincount.steps.ingesting.journal import Journal
from bincount.steps.ingesting.limits import check_rejected
from bincount.steps.ingesting.metadata import Read, read_metadata
from bincount.steps.ingesting.request import FORMAT, Request, Work, write_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Planned:
    """One bin to fetch: `place` is where its metadata is in the journal."""

    id: str
    group: str
    part: str
    recorded: int
    n_skus: int
    place: int


@dataclass(frozen=True, slots=True)
class PlannedShard:
    """One shard to write: its key, its bins in order, and about how large its photos are."""

    key: str
    bins: list[Planned]
    size_bytes: int


@dataclass(frozen=True)
class Plan:
    """A plan on disk; its shards are read one after the other, so that it takes no memory.

    Attributes:
        rejected: What was set aside while metadata were read, siblings included.
        read: Number of bins whose metadata were read.
    """

    path: Path
    rejected: list[Rejected]
    read: int

    def shards(self) -> Iterator[PlannedShard]:
        """The shards in order."""
        with self.path.open("rb") as file:
            head = json.loads(file.readline())
            for shard in head["shards"]:
                rows = islice(file, shard["bins"])
                yield PlannedShard(shard["key"], [Planned(*json.loads(row)) for row in rows], shard["size_bytes"])

    @classmethod
    def read_from(cls, path: Path) -> Plan | None:
        """Reads the plan that was written there, None where there is none."""
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = json.loads(file.readline())
        return cls(path, [Rejected(*row) for row in head["rejected"]], head["read"])


def make_plan(store: Store, settings: Settings, request: Request, candidates: Candidates, *, workers: int) -> Plan:
    """Reads metadata and writes the plan, or finds the one that was written before.

    Raises:
        DataError: If too many bins are faulty or a part would be empty.
        StoreError: If the store does not answer; what was read is kept.
    """
    work = Work.of(settings, request.name)
    found = Plan.read_from(work.plan)
    if found is not None and work.journal.is_file():
        return found
    work.write_request(request)
    with Journal(work.journal) as journal:
        read = read_metadata(store, request, candidates, journal, workers=workers)
    check_rejected(read.rejected, len(read.wanted) + len(read.rejected), request.max_rejected)
    skus = {bin_id: metadata.skus for bin_id, metadata in read.metadata.items()}
    placed, siblings = place_bins(read.wanted, skus)
    check_parts({bin_id: place.part for bin_id, place in placed.items()})
    rejected = [*read.rejected, *(Rejected(bin_id, SIBLING) for bin_id in siblings)]
    bins = {
        bin_id: Planned(
            bin_id,
            place.group,
            place.part,
            read.metadata[bin_id].recorded,
            len(read.metadata[bin_id].skus),
            read.places[bin_id],
        )
        for bin_id, place in placed.items()
    }
    _write(work.plan, request, candidates, bins, rejected, read)
    log.info(
        "%s: %d bins have a count of %s out of %d read; %d set aside, %d of them as siblings in another part",
        request.source,
        len(read.wanted),
        Counts.parse(request.counts),
        len(read.metadata),
        len(rejected),
        len(siblings),
    )
    return Plan(work.plan, rejected, len(read.metadata))


def _write(
    path: Path,
    request: Request,
    candidates: Candidates,
    bins: dict[str, Planned],
    rejected: list[Rejected],
    read: Read,
) -> None:
    shards = []
    for ids in cut_shards(bins, candidates.sizes):
        key = digest_of(
            {
                "format": FORMAT,
                "source": request.source,
                "bins": [[bin_id, candidates.marks.get(bin_id, 0)] for bin_id in ids],
            }
        )
        size = sum(candidates.sizes.get(bin_id, PHOTO_BYTES) for bin_id in ids)
        shards.append({"key": key, "bins": len(ids), "size_bytes": size})
    head = {"shards": shards, "rejected": [astuple(one) for one in rejected], "read": len(read.metadata)}
    rows = (json.dumps(astuple(planned)).encode() + b"\n" for planned in bins.values())
    write_whole(path, json.dumps(head).encode() + b"\n", *rows)
