"""Photos of one bin: neighbouring ids that share a product.

Consecutive padded ids are often the same bin before and after one item moved.
Such photos belong together wherever data are split or resampled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

BLOCK = 20

_PADDED = re.compile(r"0\d{4}|[1-9]\d{4,5}")
_UNPADDED = re.compile(r"[1-9]\d{0,3}|0")


def sort_key_of(bin_id: str) -> tuple[str, int, str]:
    """The sort key of an id: its family, its number within the family, the id itself.

    The bucket holds two families whose numbers collide: "00523" ("padded", the
    main set) and "523" ("unpadded", an older sample). An id of neither family
    is alone in its own. Sorting by this gives the order of records.

    Example:
        >>> sort_key_of("00523"), sort_key_of("523"), sort_key_of("x-1")
        (('padded', 523, '00523'), ('unpadded', 523, '523'), ('x-1', 0, 'x-1'))
    """
    if _PADDED.fullmatch(bin_id):
        return "padded", int(bin_id), bin_id
    if _UNPADDED.fullmatch(bin_id):
        return "unpadded", int(bin_id), bin_id
    return bin_id, 0, bin_id


def block_of(bin_id: str) -> str:
    """Names the block of 20 consecutive ids that an id belongs to.

    Example:
        >>> block_of("00019"), block_of("00020"), block_of("20")
        ('padded/0', 'padded/1', 'unpadded/1')
    """
    family, number, _ = sort_key_of(bin_id)
    return f"{family}/{number // BLOCK}"


def groups_of(ids: Iterable[str], skus: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Names the group of each bin after the group's first id.

    A group is a run of padded ids, each the successor of the one before and
    sharing a product with it. Unpadded ids are class-ordered, not successive
    shots of one bin, so each of them is a group of its own.

    Args:
        ids: The bins' ids, in any order.
        skus: Products recorded in each of them.

    Returns:
        Group name by id, in the order of `sort_key_of`.

    Example:
        >>> groups_of(["00002", "00001", "00004"], {"00001": "a", "00002": "ab", "00004": "b"})
        {'00001': '00001', '00002': '00001', '00004': '00004'}
    """
    groups: dict[str, str] = {}
    before: str | None = None
    for bin_id in sorted(ids, key=sort_key_of):
        if before is not None and are_siblings(before, bin_id, skus):
            groups[bin_id] = groups[before]
        else:
            groups[bin_id] = bin_id
        before = bin_id
    return groups


def are_siblings(first: str, second: str, skus: Mapping[str, Sequence[str]]) -> bool:
    """True if `second` follows `first` directly and shares a product with it."""
    (family, number, _), (other, next_number, _) = sort_key_of(first), sort_key_of(second)
    if family != "padded" or other != family or next_number != number + 1:
        return False
    return not set(skus[first]).isdisjoint(skus[second])
