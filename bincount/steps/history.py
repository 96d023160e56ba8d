"""Who was champion, since when, and because of whom."""

from __future__ import annotations

from dataclasses import asdict

from bincount.edge import champion as champions
from bincount.edge.settings import Settings


def history(settings: Settings) -> dict:
    """Every move of the champion's place, the latest first.

    Args:
        settings: Names the tracking server.

    Returns:
        `moves`, each with `at`, `champion`, `instead_of`, `who` and `why`.

    Raises:
        ConfigError: If no version was ever registered.
        StoreError: If the tracking server does not answer.
    """
    return {"moves": [asdict(move) for move in reversed(champions.moves(settings))]}
