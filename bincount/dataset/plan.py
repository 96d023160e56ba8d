"""Step 1 of an ingest: reads metadata, decides which bins go into which shard, and writes the plan.

Workers that share the fetching read the plan; nothing in it depends on what arrives first.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import astuple, dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from bincount.config import IngestConfig
from bincount.counts import Counts
from bincount.dataset.bin_reader import metadata_of
from bincount.dataset.candidates import Candidates, check_ids, find_candidates
from bincount.dataset.job import FORMAT, IngestJob, JobSpec, check_rejected, find_finished_ingest
from bincount.dataset.journal import Journal, open_entries, read_entry
from bincount.dataset.keys import metadata_key
from bincount.dataset.metadata import Metadata
from bincount.dataset.placement import assign_parts, check_parts, cut_shards, draw_order
from bincount.dataset.rejection import SIBLING, Rejection
from bincount.errors import ConfigError
from bincount.files import digest_of, write_atomically
from bincount.progress import ProgressLog
from bincount.settings import Settings
from bincount.store.interface import FetchedObject, Store
from bincount.store.open_store import open_store

_log = logging.getLogger(__name__)


def plan(settings: Settings, *, store: Store | None = None, **options: Any) -> dict[str, Any]:
    """Reads metadata and decides which bins go into which shard.

    Args:
        settings: Names workspace and buckets.
        store: The source, where it is open already.
        **options: Fields of `IngestConfig`.

    Returns:
        {"plan": the name by which `fetch` finds it, "shards": how many there are,
        "finished": whether the manifest exists already, so that there is nothing to fetch}.

    Raises:
        ConfigError: If a setting is wrong, or the source is absent or denied.
        DataError: If too many bins are faulty, a part would be empty, or ids lost their leading zeros.
        StoreError: If the source does not answer; the next run resumes.
    """
    config = IngestConfig(**options)
    store = store or open_store(config.source, settings)
    candidates = find_candidates(store, config.ids)
    spec = JobSpec(
        source=store.source,
        candidates=candidates.digest,
        counts=str(Counts.parse(config.counts)),
        limit=config.limit,
        seed=None if config.limit is None else config.seed,
        other_counts=config.other_counts,
    )
    with IngestJob.of(settings, spec.name).locked("plan"):
        finished = find_finished_ingest(settings, spec.name, config.max_rejected)
        shards = finished.shards if finished else make_plan(store, settings, spec, candidates, config).shards
        return {"plan": spec.name, "shards": len(shards), "finished": finished is not None}


class PlannedBin(NamedTuple):
    """One bin to fetch, and where its metadata is in the journal."""

    id: str
    group: str
    part: str
    recorded: int
    n_skus: int
    metadata_offset: int


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
        """Writes a plan in one step; `bins` are those of all shards, in order."""
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


def make_plan(store: Store, settings: Settings, spec: JobSpec, candidates: Candidates, config: IngestConfig) -> Plan:
    """Reads metadata and writes the plan, or finds the one that was written before.

    Raises:
        DataError: If too many bins are faulty, a part would be empty, or ids lost their leading zeros.
        StoreError: If the store does not answer; what was read is kept.
    """
    job = IngestJob.of(settings, spec.name)
    if job.plan.is_file() and job.journal.is_file() and not job.retry_marker.exists():
        job.shared.push(job.journal, job.plan)  # a killed attempt may not have come so far
        return Plan.read(job.plan)
    job.write_spec(spec)
    with Journal(job.journal, partial(job.shared.checkpoint, job.journal)) as journal:
        read = read_metadata(store, spec, candidates, journal, config)
    check_rejected(read.rejected, len(read.recorded) + len(read.rejected), config.max_rejected)
    assigned, siblings = assign_parts(read.recorded, read.skus, read.others)
    check_parts({bin_id: assignment.part for bin_id, assignment in assigned.items()})
    recorded = read.recorded | read.others
    rejected = [*read.rejected, *(Rejection(bin_id, SIBLING) for bin_id in siblings)]
    _log.info(
        "%s: %d of %d bins have a count of %s; %d faulty, %d siblings in another part",
        spec.source,
        len(read.recorded),
        len(read.skus),
        spec.counts,
        len(read.rejected),
        len(siblings),
    )
    rows = (
        PlannedBin(bin_id, *assignment, recorded[bin_id], len(read.skus[bin_id]), journal.offsets[bin_id])
        for bin_id, assignment in assigned.items()
    )
    shards = []
    for bins in cut_shards(candidates.entries(assigned)):
        objects = [[bin_id, fingerprint] for bin_id, _, fingerprint in bins]
        key = digest_of({"format": FORMAT, "source": spec.source, "bins": objects})
        shards.append(PlannedShard(key, len(bins), sum(size_bytes for _, size_bytes, _ in bins)))
    written = Plan.write(job.plan, shards, rejected, rows)
    job.shared.push(job.journal, job.plan)
    return written


@dataclass
class CandidateMetadata:
    """Recorded counts and faults of the candidates, from their metadata.

    Attributes:
        skus: Products of each bin with valid metadata.
        recorded: Recorded count of those whose count is among the requested ones.
        others: Recorded count of the others, if these are to be learned from.
        rejected: Bins that were set aside.
    """

    skus: dict[str, tuple[str, ...]] = field(default_factory=dict)
    recorded: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)


def read_metadata(
    store: Store, spec: JobSpec, candidates: Candidates, journal: Journal, config: IngestConfig
) -> CandidateMetadata:
    """Reads the metadata of candidates until enough have a requested count.

    With a limit, candidates are read in an order drawn from the seed until so many have a requested count; which bins
    those are does not depend on the order of arrival.

    Args:
        store: The source.
        spec: The requested counts, how many bins, and the seed.
        candidates: The bins to choose from.
        journal: Metadata that were read before; valid ones are added to it.
        config: Number of requests at a time, the largest share of faulty bins, and the `--ids` option.

    Raises:
        DataError: If so many are faulty that nothing could be published, or ids lost their leading zeros.
        StoreError: If the store does not answer.
    """
    counts, read = Counts.parse(spec.counts), CandidateMetadata()
    ids = candidates.ids if spec.limit is None else draw_order(candidates.ids, spec.seed or 0)
    most_bins = len(ids)
    with (
        ProgressLog("metadata", len(ids)) as progress,
        closing(_read_each(store, ids, candidates, journal, config.workers)) as answers,
    ):
        for bin_id, metadata, fetched_bytes in answers:
            progress.step(fetched_bytes, isinstance(metadata, Rejection))
            if isinstance(metadata, Rejection):
                read.rejected.append(metadata)
                most_bins = len(ids) if spec.limit is None else spec.limit + len(read.rejected)
                if len(read.rejected) > config.max_rejected * most_bins:
                    break
                continue
            # The same products return thousands of times: one string for each.
            read.skus[bin_id] = tuple(map(sys.intern, metadata.skus))
            if counts.index_of(metadata.recorded) is not None:
                read.recorded[bin_id] = metadata.recorded
                if len(read.recorded) == spec.limit:
                    break
            elif spec.other_counts:
                read.others[bin_id] = metadata.recorded
    check_ids(store, config.ids, candidates.ids, read.rejected)
    check_rejected(read.rejected, most_bins, config.max_rejected)
    if spec.limit is not None and len(read.recorded) < spec.limit:
        text = "%s: %d bins have a count of %s, fewer than the limit of %d"
        _log.warning(text, spec.source, len(read.recorded), counts, spec.limit)
    return read


def _read_each(
    store: Store, ids: Sequence[str], candidates: Candidates, journal: Journal, workers: int
) -> Generator[tuple[str, Metadata | Rejection, int], None, None]:
    """Yields each id's metadata or why it is set aside, and the bytes that were fetched for it."""
    before = set(journal.offsets)
    incomplete = candidates.incomplete
    keys = (metadata_key(bin_id) for bin_id in ids if bin_id not in before and bin_id not in incomplete)
    with ExitStack() as stack:
        entries = stack.enter_context(open_entries(journal.path))
        answers = stack.enter_context(closing(store.fetch(keys, workers=workers)))
        for bin_id in ids:
            if bin_id in incomplete:
                yield bin_id, Rejection(bin_id, incomplete[bin_id]), 0
            elif bin_id in before:
                data = read_entry(entries, journal.offsets[bin_id])
                yield bin_id, metadata_of(bin_id, FetchedObject(metadata_key(bin_id), data)), 0
            else:
                answer = next(answers)
                metadata = metadata_of(bin_id, answer)
                if isinstance(metadata, Metadata) and answer.data is not None:
                    journal.append(bin_id, answer.data)
                yield bin_id, metadata, len(answer.data or b"")
