"""Pairs of photos of one bin, one transaction apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from bincount.dataset.groups import sort_key_of
from bincount.dataset.manifest import Record


class Pair(NamedTuple):
    """Rows of two records of one bin: of the earlier photo and of the later one."""

    before: int
    after: int


def pairs_of(records: Sequence[Record]) -> list[Pair]:
    """Finds neighbouring ids of one group: a bin before and after one stow or pick.

    Args:
        records: Bins in the order of a manifest, such as those of one part.
    """
    pairs = []
    for row, (first, second) in enumerate(pairwise(records)):
        follows = sort_key_of(second.id)[1] == sort_key_of(first.id)[1] + 1
        if first.group == second.group and follows:
            pairs.append(Pair(row, row + 1))
    return pairs
