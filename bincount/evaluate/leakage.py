"""Leakage: bins that a model learned from, directly or through a sibling photo of the same bin."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from bincount.dataset.groups import groups_of, sort_key_of
from bincount.dataset.manifest import Record

LEARNED_BIN = "the model learned from it"
LEARNED_SIBLING = "the model learned from a sibling photo"

_SIBLINGS_REACH = 2


def learned_bins(
    wanted: Mapping[str, int], skus: Mapping[str, Sequence[str]], is_learned: Callable[[str], bool]
) -> dict[str, str]:
    """Finds the bins that a model learned from, or from a sibling photo of.

    Siblings have neighbouring ids and common products. A learned neighbour
    whose products were not read counts as a sibling.

    Args:
        wanted: Recorded count by id.
        skus: Products of every bin whose metadata was read, including the wanted ones.
        is_learned: Whether the model learned from the bin of an id.

    Returns:
        `LEARNED_BIN` or `LEARNED_SIBLING` by id, for the bins found.

    Example:
        >>> skus = {"00001": ["a"], "00002": ["a"], "00009": ["b"]}
        >>> learned_bins({"00002": 3, "00009": 1}, skus, {"00001", "00010"}.__contains__)
        {'00002': 'the model learned from a sibling photo', '00009': 'the model learned from a sibling photo'}
    """
    groups = groups_of(skus, skus)
    learned = {group for bin_id, group in groups.items() if is_learned(bin_id) or _has_unread(bin_id, skus, is_learned)}
    return {
        bin_id: LEARNED_BIN if is_learned(bin_id) else LEARNED_SIBLING
        for bin_id in wanted
        if is_learned(bin_id) or groups[bin_id] in learned
    }


def is_another_bucket(
    wanted: Mapping[str, int], skus: Mapping[str, Sequence[str]], learned: Mapping[str, Record]
) -> bool:
    """True if equal ids name different bins in a source and in the training data.

    A bucket may be a copy of another one, under any name, and ids of two
    buckets may collide: "00523" is in both. Copies have equal records except for
    a few recounts; unrelated buckets agree by chance in about one of ten.

    Args:
        wanted: Recorded count by id.
        skus: Products of each.
        learned: The records that the model learned from, by id.

    Returns:
        True if ids are shared and most of them differ in count or number of products.
    """
    shared = [bin_id for bin_id in wanted if bin_id in learned]
    equal = sum(
        (wanted[bin_id], len(skus[bin_id])) == (learned[bin_id].recorded, learned[bin_id].n_skus) for bin_id in shared
    )
    return bool(shared) and equal < len(shared) / 2


def exclude_learned(records: Sequence[Record], learned: Collection[str]) -> list[Record]:
    """Excludes records whose group has a photo among the learned ones.

    A part is assigned by blocks of ids, and a group may reach across a block's border.

    Args:
        records: Records of the test part.
        learned: Groups of the bins that the model learned from.
    """
    groups = set(learned)
    return [record for record in records if record.group not in groups]


def exclude_siblings(records: Sequence[Record], learned: Collection[str]) -> list[Record]:
    """Excludes records whose group may hold a sibling photo of a bin that another model learned from.

    Groups are named within one manifest. Across manifests two photos may show
    the same bin if their ids are at most two apart; no pair that is three
    apart shares a product.

    Args:
        records: Records of one manifest.
        learned: Ids of the bins the other model learned from.
    """
    near = {
        (family, number + step)
        for family, number, _ in map(sort_key_of, learned)
        for step in range(-_SIBLINGS_REACH, _SIBLINGS_REACH + 1)
    }
    touched = {record.group for record in records if sort_key_of(record.id)[:2] in near}
    return [record for record in records if record.group not in touched]


def _has_unread(bin_id: str, skus: Mapping[str, Sequence[str]], is_learned: Callable[[str], bool]) -> bool:
    family, number, _ = sort_key_of(bin_id)
    if family != "padded":
        return False
    neighbours = [f"{number + step:05d}" for step in (-1, 1) if number + step >= 0]
    return any(neighbour not in skus and is_learned(neighbour) for neighbour in neighbours)
