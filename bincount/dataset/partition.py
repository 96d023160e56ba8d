"""Division of work among workers that do not communicate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from bincount.errors import ConfigError

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Partition:
    """One of `of` shares of the same work: each item is in exactly one of them.

    Attributes:
        number: Which, 1 to `of`.
        of: How many there are; 1 is all of the work.
    """

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Partition:
        """Reads a share such as "1/3".

        Raises:
            ConfigError: If there is no such share.

        Example:
            >>> Partition.parse("2/3")
            Partition(number=2, of=3)
        """
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        share = cls(int(match[1]), int(match[2])) if match else None
        if share is None or not 1 <= share.number <= share.of:
            raise ConfigError(f"--share: must be such as 1/3, from 1/N to N/N, got {text!r}.")
        return share

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def pick(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """Every `of`-th item, from the `number`-th on."""
        return items[self.number - 1 :: self.of]


ALL = Partition()
"""The only share of work that is not divided."""
