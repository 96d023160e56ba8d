"""The split: which part of the data a bin belongs to."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from typing import Protocol

from bincount.dataset.groups import block_of
from bincount.errors import DataError

PART_FRACTIONS: Mapping[str, float] = {"train": 0.65, "validation": 0.10, "calibration": 0.10, "test": 0.15}
STRATUM = 20
"""Blocks drawn together. The shares hold exactly in each full stratum, so a few hundred bins fill every part."""


def part_of(bin_id: str) -> str:
    """Assigns a bin to one part of the data from its id alone.

    Of every 20 consecutive blocks of 20 ids, hashing draws which belong to
    which part, in exactly the shares of `PART_FRACTIONS`. So photos of one bin stay together
    (but at a block's border), and a bin stays where it is when others are
    added, listed in another order or ingested twice. No random state is
    involved.

    Args:
        bin_id: Stem shared by a bin's photo and metadata, such as "104721".
            A string: "523" and "00523" are different bins.

    Returns:
        One of the keys of `PART_FRACTIONS`.

    Example:
        >>> part_of("00001") == part_of("00019")
        True
    """
    family, number = block_of(bin_id).rsplit("/", 1)
    position = (_rank(family, int(number)) + 0.5) / STRATUM
    for part, share in PART_FRACTIONS.items():
        position -= share
        if position < 0:
            return part
    return part


@functools.lru_cache(maxsize=1024)
def _rank(family: str, number: int) -> int:
    """Rank of a block among those of its stratum, 0 to 19, in an order drawn by hashing."""
    first = number - number % STRATUM
    order = sorted(range(first, first + STRATUM), key=lambda block: _hashed(f"{family}/{block}"))
    return order.index(number)


def _hashed(block: str) -> bytes:
    return hashlib.sha256(f"bincount/part/{block}".encode()).digest()


class _Placed(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def part(self) -> str: ...


def check_disjoint(records: Iterable[_Placed]) -> None:
    """Checks that no group of photos of one bin is in two parts.

    Every training run calls this: a group in two parts would test the model on
    a bin it has learnt.

    Raises:
        DataError: If one does; the message names the group and two of its bins.
    """
    first: dict[str, _Placed] = {}
    auxiliary: dict[str, _Placed] = {}
    for record in records:
        before = (auxiliary if record.part == AUXILIARY else first).setdefault(record.group, record)
        if before.part != record.part:
            raise _divided(before, record)
    for group, record in auxiliary.items():
        if group in first and first[group].part not in LEARNED_PARTS:
            raise _divided(first[group], record)


def _divided(one: _Placed, other: _Placed) -> DataError:
    return DataError(
        f"group {one.group!r}: must lie in one part, got {one.id!r} in {one.part} and {other.id!r} in {other.part}. "
        "Run `bincount ingest` again; it sets such photos aside."
    )


DEVELOPMENT_PARTS = ("train", "validation", "calibration")
"""The parts a model has seen, in one way or another."""

LEARNED_PARTS = ("train", "validation")
"""The parts that a whole network learns from."""

AUXILIARY = "auxiliary"
"""The part of bins that are learned from and never scored: those with other counts than the requested ones, in
blocks of `LEARNED_PARTS`."""

SEEN_PARTS = (*DEVELOPMENT_PARTS, AUXILIARY)
"""The parts whose bins a model must not be scored on."""
