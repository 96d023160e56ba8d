"""Leakage: bins of a source that a model learned from, directly or through a sibling photo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bincount.dataset.groups import groups_of, sort_key_of
from bincount.dataset.manifest import Record

LEARNED_BIN = "the model learned from it"
LEARNED_SIBLING = "the model learned from a sibling photo"


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


def _has_unread(bin_id: str, skus: Mapping[str, Sequence[str]], is_learned: Callable[[str], bool]) -> bool:
    family, number, _ = sort_key_of(bin_id)
    if family != "padded":
        return False
    neighbours = [f"{number + step:05d}" for step in (-1, 1) if number + step >= 0]
    return any(neighbour not in skus and is_learned(neighbour) for neighbour in neighbours)
