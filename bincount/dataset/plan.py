"""Decides what an ingest will fetch, so that many workers can share the fetching."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import astuple, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from bincount.config import FetchConfig, IngestConfig
from bincount.counts import Counts
from bincount.dataset import reader
from bincount.dataset.candidates import Candidates, find_candidates
from bincount.dataset.job import FORMAT, IngestJob, IngestRequest, check_rejected, find_finished
from bincount.dataset.journal import Journal, open_entries, read_entry
from bincount.dataset.manifest import Manifest
from bincount.dataset.metadata import Metadata
from bincount.dataset.placement import check_parts, cut_shards, draw_order, place_bins
from bincount.dataset.reader import METADATA, parse_or_reject
from bincount.dataset.rejection import SIBLING, Rejection
from bincount.errors import ConfigError
from bincount.files import digest_of, write_atomically
from bincount.progress import ProgressLog
from bincount.settings import Settings
from bincount.store.interface import Store
from bincount.store.open_store import open_store

_log = logging.getLogger(__name__)


def plan(settings: Settings, *, store: Store | None = None, **asked: Any) -> dict[str, Any]:
    """Reads metadata and decides which bins go into which shard.

    Args:
        settings: Names workspace and buckets.
        store: The source, where it is open already.
        **asked: What `IngestConfig` takes: `ingest`'s arguments.

    Returns:
        {"plan": the name by which `fetch` finds it, "shards": how many there are,
        "finished": whether the manifest is there already, so that there is nothing to fetch}.

    Raises:
        ConfigError: If a setting is wrong, or the source is absent or denied.
        DataError: If too many bins are faulty or a part would be empty.
        StoreError: If the source does not answer; running again goes on from there.
    """
    wanted = IngestConfig(**asked)
    store = store or open_store(wanted.source, settings)
    candidates = find_candidates(store, wanted.ids)
    request = IngestRequest(
        source=store.source,
        candidates=candidates.digest,
        counts=str(Counts.parse(wanted.counts)),
        limit=wanted.limit,
        seed=None if wanted.limit is None else wanted.seed,
    )
    with IngestJob.of(settings, request.name).doing("plan"):
        if done := find_finished(settings, request.name, wanted.max_rejected):
            shards = len(Manifest.read(settings.manifests, done["manifest"]).shards)
        else:
            shards = len(make_plan(store, settings, request, candidates, wanted).shards)
        return {"plan": request.name, "shards": shards, "finished": done is not None}


class PlannedBin(NamedTuple):
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
    rejected: list[Rejection]

    def bins(self) -> Iterator[list[PlannedBin]]:
        """The bins of one shard after the other."""
        with self.path.open("rb") as file:
            file.readline()
            for shard in self.shards:
                yield [PlannedBin(*json.loads(row)) for row in islice(file, shard.bins)]

    @classmethod
    def write(
        cls, path: Path, shards: list[PlannedShard], rejected: list[Rejection], bins: Iterable[PlannedBin]
    ) -> Plan:
        """Writes a plan whole or not at all; `bins` are those of all shards, in order."""
        head = {"shards": shards, "rejected": [astuple(one) for one in rejected]}
        write_atomically(path, (json.dumps(row).encode() + b"\n" for row in chain([head], bins)))
        return cls(path, shards, rejected)

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Reads the plan that was written there.

        Raises:
            ConfigError: If there is none.
        """
        if not path.is_file():
            raise ConfigError(f"--plan: must be planned first, got {path.parent.name!r}. Run `bincount plan` before.")
        with path.open("rb") as file:
            head = json.loads(file.readline())
        shards = [PlannedShard(*row) for row in head["shards"]]
        return cls(path, shards, [Rejection(*row) for row in head["rejected"]])


def make_plan(
    store: Store, settings: Settings, request: IngestRequest, candidates: Candidates, bounds: FetchConfig
) -> Plan:
    """Reads metadata and writes the plan, or finds the one that was written before.

    Raises:
        DataError: If too many bins are faulty or a part would be empty.
        StoreError: If the store does not answer; what was read is kept.
    """
    work = IngestJob.of(settings, request.name)
    if work.plan.is_file() and work.journal.is_file() and not work.doubt.exists():
        return Plan.read(work.plan)
    work.write_request(request)
    with Journal(work.journal) as journal:
        read = read_metadata(store, request, candidates, journal, bounds)
    check_rejected(read.rejected, len(read.wanted) + len(read.rejected), bounds.max_rejected)
    placed, siblings = place_bins(read.wanted, read.skus)
    check_parts({bin_id: place.part for bin_id, place in placed.items()})
    rejected = [*read.rejected, *(Rejection(bin_id, SIBLING) for bin_id in siblings)]
    _log.info(
        "%s: %d of %d bins have a count of %s; %d faulty, %d siblings in another part",
        request.source,
        len(read.wanted),
        len(read.skus),
        request.counts,
        len(read.rejected),
        len(siblings),
    )
    rows = (
        PlannedBin(bin_id, *place, read.wanted[bin_id], len(read.skus[bin_id]), journal.places[bin_id])
        for bin_id, place in placed.items()
    )
    shards = []
    for bins in cut_shards(candidates.listed(placed)):
        marked = [[bin_id, mark] for bin_id, _, mark in bins]
        key = digest_of({"format": FORMAT, "source": request.source, "bins": marked})
        shards.append(PlannedShard(key, len(bins), sum(size_bytes for _, size_bytes, _ in bins)))
    return Plan.write(work.plan, shards, rejected, rows)


@dataclass
class MetadataRead:
    """What reading metadata brought.

    Attributes:
        skus: Products of each bin that was looked at and is sound.
        wanted: Recorded count of those whose count is wanted.
        rejected: What was set aside.
    """

    skus: dict[str, tuple[str, ...]] = field(default_factory=dict)
    wanted: dict[str, int] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)


def read_metadata(
    store: Store, request: IngestRequest, candidates: Candidates, journal: Journal, bounds: FetchConfig
) -> MetadataRead:
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
    counts, read = Counts.parse(request.counts), MetadataRead()
    ids = candidates.ids if request.limit is None else draw_order(candidates.ids, request.seed or 0)
    with (
        ProgressLog("metadata", len(ids)) as progress,
        closing(_read(store, ids, candidates, journal, bounds.workers)) as found,
    ):
        for bin_id, metadata, fetched_bytes in found:
            progress.step(fetched_bytes, isinstance(metadata, Rejection))
            if isinstance(metadata, Rejection):
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
        _log.warning(text, request.source, len(read.wanted), counts, request.limit)
    return read


def _read(
    store: Store, ids: Sequence[str], candidates: Candidates, journal: Journal, workers: int
) -> Generator[tuple[str, Metadata | Rejection, int], None, None]:
    """Yields each id's metadata or why it is set aside, and the bytes that were fetched for it."""
    before = set(journal.places)
    keys = (METADATA.key(bin_id) for bin_id in ids if bin_id not in before and bin_id not in candidates.halves)
    with ExitStack() as stack:
        entries = stack.enter_context(open_entries(journal.path))
        answers = stack.enter_context(closing(store.fetch(keys, workers=workers)))
        for bin_id in ids:
            if bin_id in candidates.halves:
                yield bin_id, Rejection(bin_id, candidates.halves[bin_id]), 0
            elif bin_id in before:
                yield bin_id, parse_or_reject(bin_id, read_entry(entries, journal.places[bin_id])), 0
            else:
                answer = next(answers)
                metadata = reader.read_metadata(bin_id, answer)
                if isinstance(metadata, Metadata):
                    journal.append(bin_id, answer.data or b"")
                yield bin_id, metadata, len(answer.data or b"")
