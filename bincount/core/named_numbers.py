"""Settings that are several numbers in one text, such as "ece=0.03,groups=50"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bincount.core.errors import ConfigError


def read_numbers(text: str, types: Mapping[str, Callable[[str], Any]], where: str) -> dict[str, Any]:
    """Reads NAME=NUMBER separated by commas.

    Args:
        text: The setting; empty names nothing.
        types: What makes each name's number of its text, such as int; no other name may stand there.
        where: Whose setting it is, for the message.

    Returns:
        The numbers that are named, by name.

    Raises:
        ConfigError: If a name is unknown or a value no such number.

    Example:
        >>> read_numbers("ece=0.03, groups=50", {"ece": float, "groups": int, "rps_worse": float}, "gate")
        {'ece': 0.03, 'groups': 50}
    """
    named = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (part.strip() for part in entry.partition("="))
        try:
            named[name] = types[name](value)
        except (KeyError, ValueError):
            raise ConfigError(
                f"{where}: must be NAME=NUMBER separated by commas, with names of {', '.join(types)}, got {entry!r}. "
                "Fix the entry."
            ) from None
    return named
