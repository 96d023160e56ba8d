"""What a check of `bincount doctor` found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: What was looked at.
        ok: Whether it is as it should be.
        needed: Whether the chain cannot run without it.
        found: What is there.
        do: What to do about it, "" where nothing is to be done.
    """

    check: str
    ok: bool
    needed: bool
    found: str
    do: str = ""
