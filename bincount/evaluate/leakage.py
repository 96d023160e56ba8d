"""Which bins of a source a model has learned from: they cannot say how good it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bincount.dataset.groups import groups_of, place_of
from bincount.dataset.manifest import Record

LEARNED_BIN = "the model learned from it"
LEARNED_SIBLING = "the model learned from a sibling photo"


def learned_bins(
    wanted: Mapping[str, int], skus: Mapping[str, Sequence[str]], is_learned: Callable[[str], bool]
) -> dict[str, str]:
    """Finds the bins that a model knows, or of which it knows a sibling photo.

    Siblings are told by neighbouring ids and common products. A learned
    neighbour whose products were not read may be one and counts as one.

    Args:
        wanted: Recorded count by id.
        skus: Products of every bin whose metadata was read, the wanted ones among them.
        is_learned: Whether a model learned from the bin of an id.

    Returns:
        `LEARNED_BIN` or `LEARNED_SIBLING` by id, of those it knows.

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
    """Whether equal ids name different bins here and where a model learned.

    A bucket may be a copy of another one, under any name, and ids of two
    buckets may collide: "00523" is in both. Copies agree in what they record,
    but for a few bins counted anew; strangers agree by chance, in about one of ten.

    Args:
        wanted: Recorded count by id.
        skus: Products of each.
        learned: The records that a model learned from, by id.

    Returns:
        True if ids are shared and most of them record another count or another number of products.
    """
    shared = [bin_id for bin_id in wanted if bin_id in learned]
    equal = sum(
        (wanted[bin_id], len(skus[bin_id])) == (learned[bin_id].recorded, learned[bin_id].n_skus) for bin_id in shared
    )
    return bool(shared) and equal < len(shared) / 2


def _has_unread(bin_id: str, skus: Mapping[str, Sequence[str]], is_learned: Callable[[str], bool]) -> bool:
    family, number, _ = place_of(bin_id)
    if family != "padded":
        return False
    neighbours = [f"{number + step:05d}" for step in (-1, 1) if number + step >= 0]
    return any(neighbour not in skus and is_learned(neighbour) for neighbour in neighbours)
