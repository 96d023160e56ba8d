"""How many workers divide work among themselves without asking each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from bincount.core.errors import ConfigError

_Thing = TypeVar("_Thing")


@dataclass(frozen=True)
class Share:
    """One of `of` shares of the same work: each thing is in exactly one of them.

    Attributes:
        index: Which, 0 to `of` - 1.
        of: How many there are; 1 is all of the work.

    Raises:
        ConfigError: If there is no such share.
    """

    index: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if self.of < 1:
            raise ConfigError(f"--of: must be 1 or more, got {self.of!r}. Name how many shares there are.")
        if not 0 <= self.index < self.of:
            raise ConfigError(
                f"--index: must be a share from 0 to {self.of - 1}, got {self.index!r}. Check --index and --of."
            )

    def pick(self, things: Sequence[_Thing]) -> Sequence[_Thing]:
        """Every `of`-th thing, from the `index`-th on."""
        return things[self.index :: self.of]


ALL = Share()
"""The only share of work that is not divided."""
