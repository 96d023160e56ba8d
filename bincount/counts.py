"""The counts that a model tells apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bincount.errors import ConfigError


@dataclass(frozen=True)
class Counts:
    """The classes of a model: a range of counts, the top one open or not.

    With an open top (``0-5+``) every larger count falls into one more class,
    named "6+" and valued 6. Without it a larger or smaller count is no class
    at all, and a bin that holds it cannot be counted.

    Example:
        >>> Counts.parse("1-5").names
        ('1', '2', '3', '4', '5')
        >>> Counts.parse("0-5+").names[-2:]
        ('5', '6+')
        >>> Counts.parse("0-5+").index_of(17), Counts.parse("1-5").index_of(17)
        (6, None)
    """

    low: int
    high: int
    open_top: bool = False

    @classmethod
    def parse(cls, text: str) -> Counts:
        """Reads ``LOW-HIGH`` or ``LOW-HIGH+``.

        Raises:
            ConfigError: If `text` has another form, the range is empty or
                holds fewer than two classes, or a count is above 99.
        """
        match = re.fullmatch(r"(\d{1,2})-(\d{1,2})(\+?)", text.strip())
        counts = cls(int(match[1]), int(match[2]), bool(match[3])) if match else None
        if counts is None or counts.low > counts.high or len(counts) < 2:
            raise ConfigError(
                f"counts: must be a range such as 1-5, or 0-5+ for an open top class, got {text!r}. "
                "Give LOW-HIGH with at least two classes."
            )
        return counts

    @property
    def values(self) -> tuple[int, ...]:
        """The number of items each class stands for, rising."""
        return tuple(range(self.low, self.high + 1 + self.open_top))

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each class, as in a served answer."""
        closed = [str(value) for value in range(self.low, self.high + 1)]
        return tuple([*closed, f"{self.high + 1}+"] if self.open_top else closed)

    def index_of(self, count: int) -> int | None:
        """The class of a count, or None where no class holds it."""
        if count < self.low:
            return None
        if count > self.high:
            return len(self) - 1 if self.open_top else None
        return count - self.low

    def __len__(self) -> int:
        return self.high - self.low + 1 + self.open_top

    def __str__(self) -> str:
        return f"{self.low}-{self.high}{'+' if self.open_top else ''}"
