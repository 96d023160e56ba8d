"""Plans an ingest: which bins go into which shard, before the first photo is fetched."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from bincount.core.digest import digest_of
from bincount.core.errors import ConfigError
from bincount.core.files import write_whole
from bincount.core.plan import check_parts, cut_shards, place_bins
from bincount.core.rejected import SIBLING, Rejected
from bincount.edge.settings import Settings
from bincount.edge.store import Store
from bincount.steps.ingesting.asked import Bounds
from bincount.steps.ingesting.candidates import Candidates
from bincount.steps.ingesting.journal import Journal
from bincount.steps.ingesting.limits import check_rejected
from bincount.steps.ingesting.metadata import read_metadata
from bincount.steps.ingesting.request import FORMAT, Request, Work

log = logging.getLogger(__name__)


class Planned(NamedTuple):
    """One bin to fetch: `place` is where its metadata is in the journal."""

    id: str
    group: str
    part: str
    recorded: int
    n_skus: int
    place: int


class PlannedShard(NamedTuple):
    """One shard to write: its key, how many bins it holds and about how large their photos are."""

    key: str
    bins: int
    size_bytes: int


@dataclass(frozen=True)
class Plan:
    """A plan on disk; its bins are read shard by shard, so that they take no memory.

    Attributes:
        path: Its file.
        shards: The shards in order.
        rejected: What was set aside while metadata were read, siblings included.
    """

    path: Path
    shards: list[PlannedShard]
    rejected: list[Rejected]

    def bins(self) -> Iterator[list[Planned]]:
        """The bins of one shard after the other."""
        with self.path.open("rb") as file:
            file.readline()
            for shard in self.shards:
                yield [Planned(*json.loads(row)) for row in islice(file, shard.bins)]

    @classmethod
    def write(cls, path: Path, shards: list[PlannedShard], rejected: list[Rejected], bins: Iterable[Planned]) -> Plan:
        """Writes a plan whole or not at all; `bins` are those of all shards, in order."""
        head = {"shards": shards, "rejected": [astuple(one) for one in rejected]}
        write_whole(path, (json.dumps(row).encode() + b"\n" for row in chain([head], bins)))
        return cls(path, shards, rejected)

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Reads the plan that was written there.

        Raises:
            ConfigError: If there is none.
        """
        if not path.is_file():
            raise ConfigError(
                f"--request: must be planned first, got {path.parent.name!r}. Run `bincount plan` before."
            )
        with path.open("rb") as file:
            head = json.loads(file.readline())
        shards = [PlannedShard(*row) for row in head["shards"]]
        return cls(path, shards, [Rejected(*row) for row in head["rejected"]])


def make_plan(store: Store, settings: Settings, request: Request, candidates: Candidates, bounds: Bounds) -> Plan:
    """Reads metadata and writes the plan, or finds the one that was written before.

    Raises:
        DataError: If too many bins are faulty or a part would be empty.
        StoreError: If the store does not answer; what was read is kept.
    """
    work = Work.of(settings, request.name)
    if work.plan.is_file() and work.journal.is_file() and not work.doubt.exists():
        return Plan.read(work.plan)
    work.write_request(request)
    with Journal(work.journal) as journal:
        read = read_metadata(store, request, candidates, journal, bounds)
    check_rejected(read.rejected, len(read.wanted) + len(read.rejected), bounds.max_rejected)
    placed, siblings = place_bins(read.wanted, read.skus)
    check_parts({bin_id: place.part for bin_id, place in placed.items()})
    rejected = [*read.rejected, *(Rejected(bin_id, SIBLING) for bin_id in siblings)]
    log.info(
        "%s: %d of %d bins have a count of %s; %d faulty, %d siblings in another part",
        request.source,
        len(read.wanted),
        len(read.skus),
        request.counts,
        len(read.rejected),
        len(siblings),
    )
    rows = (
        Planned(bin_id, *place, read.wanted[bin_id], len(read.skus[bin_id]), journal.places[bin_id])
        for bin_id, place in placed.items()
    )
    shards = []
    for bins in cut_shards(candidates.listed(placed)):
        marked = [[bin_id, mark] for bin_id, _, mark in bins]
        key = digest_of({"format": FORMAT, "source": request.source, "bins": marked})
        shards.append(PlannedShard(key, len(bins), sum(size_bytes for _, size_bytes, _ in bins)))
    return Plan.write(work.plan, shards, rejected, rows)
