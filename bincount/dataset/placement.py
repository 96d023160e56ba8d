"""The placement of bins in shards, decided before the first photo is fetched.

Everything here follows from ids, metadata and sizes alone: no order of
arrival, no clock, no number of workers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bincount.dataset.groups import block_of, groups_of
from bincount.dataset.split import AUXILIARY, LEARNED_PARTS, PART_FRACTIONS, part_of
from bincount.errors import DataError

SHARD_BYTES = 100_000_000
# Mean size of a photo in s3://aft-vbi-pds, for photos whose size was not listed.
PHOTO_BYTES = 57_000


class Assignment(NamedTuple):
    """Group and part of a bin."""

    group: str
    part: str


def draw_order(ids: Iterable[str], seed: int) -> list[str]:
    """Orders ids as if drawn at random; each seed gives another order.

    The order of two ids depends on these ids and the seed alone, so it is the
    same in every set that contains both: adding ids to a set does not reorder
    the others.
    """
    return sorted(ids, key=lambda bin_id: hashlib.sha256(f"bincount/draw/{seed}/{bin_id}".encode()).digest())


def assign_parts(
    wanted: Collection[str], skus: Mapping[str, Sequence[str]], others: Collection[str] = ()
) -> tuple[dict[str, Assignment], list[str]]:
    """Gives every wanted bin its group and part, and sets siblings aside.

    Groups are formed from every bin whose metadata was read, wanted or not: two
    wanted photos with an unwanted one between them are still one bin. Where a
    group crosses a block's border into another part, the wanted photos in the part of
    its first wanted one stay and the others are set aside.

    Args:
        wanted: Ids whose count is wanted.
        skus: Products recorded in each bin whose metadata was read.
        others: Ids whose count is not wanted and that may be learned from. They get the part `AUXILIARY` where their
            block and their group's wanted photos are in `LEARNED_PARTS`, and none otherwise.

    Returns:
        Assignment by id in `sort_key_of` order, and the ids set aside in the same order.
    """
    placed: dict[str, Assignment] = {}
    aside: list[str] = []
    part_of_group: dict[str, str] = {}
    wanted = wanted if isinstance(wanted, set | frozenset | dict) else set(wanted)
    groups = groups_of(skus, skus)
    for bin_id, group in groups.items():
        if bin_id not in wanted:
            continue
        part = part_of(bin_id)
        if part_of_group.setdefault(group, part) == part:
            placed[bin_id] = Assignment(group, part)
        else:
            aside.append(bin_id)
    for bin_id in others:
        group = groups[bin_id]
        if part_of(bin_id) in LEARNED_PARTS and part_of_group.get(group, "train") in LEARNED_PARTS:
            placed[bin_id] = Assignment(group, AUXILIARY)
    if others:
        placed = {bin_id: placed[bin_id] for bin_id in groups if bin_id in placed}
    return placed, aside


def cut_shards(listed: Iterable[tuple[str, int, int]]) -> Iterator[list[tuple[str, int, int]]]:
    """Cuts bins into shards of about 100 MB.

    Args:
        listed: Id, photo's size in bytes and mark of each bin, in `sort_key_of` order.

    Returns:
        The same, shard by shard.
    """
    shard: list[tuple[str, int, int]] = []
    filled = 0
    for one in listed:
        size_bytes = one[1]
        if shard and filled + size_bytes > SHARD_BYTES:
            yield shard
            shard, filled = [], 0
        shard.append(one)
        filled += size_bytes
    if shard:
        yield shard


def check_parts(part_by_id: Mapping[str, str]) -> None:
    """Checks that every part of the data holds a bin.

    Raises:
        DataError: If one is empty; the message has the number of bins that suffice.
    """
    empty = sorted(set(PART_FRACTIONS) - set(part_by_id.values()))
    if not empty:
        return
    blocks = len({block_of(bin_id) for bin_id in part_by_id})
    # So many blocks leave the smallest part empty once in a hundred draws.
    needed = math.ceil(math.log(0.01) / math.log(1 - min(PART_FRACTIONS.values())))
    bins = needed * max(1, round(len(part_by_id) / max(1, blocks)))
    raise DataError(
        f"parts: each must hold a bin, got none for {', '.join(empty)} with {len(part_by_id)} bins from {blocks} "
        f"blocks of 20 ids. Take about {bins} bins from {needed} blocks or more: a larger --limit, more --ids or "
        "wider --counts."
    )
