"""What was decided about a version: kept on it, for programs and for people."""

from __future__ import annotations

import dataclasses
import json

from bincount.settings import Settings
from bincount.tracking import model_registry, runs
from bincount.tracking.model_registry import Version

NOBODY = "none"
"""Stands for the champion where there is none."""

_DECISION = "bincount.decision"
# MLflow's database keeps no more of a version's description.
DESCRIPTION_CHARACTERS = 5000


@dataclasses.dataclass(frozen=True)
class StoredDecision:
    """An answer that holds for the champion and the limits it was given against.

    Attributes:
        agreed: Whether the version may become champion.
        reason: Why, in one sentence.
        against: The champion's version, or `NOBODY`.
        limits: The gate's limits then.
        by: "gate", or the person who overruled it.
    """

    agreed: bool
    reason: str
    against: str
    limits: dict[str, float]
    by: str = "gate"


def new_decision(
    settings: Settings, champion: str | None, *, agreed: bool, reason: str, by: str = "gate"
) -> StoredDecision:
    """A decision for the champion and the limits of now."""
    return StoredDecision(agreed, reason, champion or NOBODY, dataclasses.asdict(settings.gate), by)


def stored_decision(settings: Settings, version: Version, champion: str | None) -> StoredDecision | None:
    """The decision on a version, where it still holds: its champion is the same, and the limits are.

    That of a champion itself holds: it was taken against the one before.
    """
    try:
        kept = StoredDecision(**json.loads(version.tags[_DECISION]))
    except (KeyError, TypeError, ValueError):
        return None
    if champion != version.version and kept.against != (champion or NOBODY):
        return None
    return kept if kept.limits == dataclasses.asdict(settings.gate) else None


def write_decision(settings: Settings, version: str, kept: StoredDecision, title: str, text: str) -> None:
    """Keeps a decision on a version, and shows it in its description.

    Args:
        settings: Names the tracking server.
        version: The version.
        kept: The decision.
        title: Of the description's section, whose earlier text it replaces.
        text: What people should read there (Markdown).
    """
    write_section(settings, version, title, text, tags={_DECISION: json.dumps(dataclasses.asdict(kept))})


def write_section(settings: Settings, version: str, title: str, text: str, *, tags: dict[str, str]) -> None:
    """Writes tags on a version, and a section of its description anew."""
    now = model_registry.version_of(settings, version).description
    before, *sections = now.split("\n\n## ")
    kept = [each for each in sections if each.partition("\n")[0] != title]
    tail = f"\n\n## {title}\n\n{text.strip()}\n"
    whole = "\n\n## ".join([before, *kept]).rstrip()
    model_registry.describe(
        settings, version, tags=tags, description=whole[: DESCRIPTION_CHARACTERS - len(tail)] + tail
    )


def is_decided(version: Version) -> bool:
    """Whether it was promoted, or refused, at some time."""
    return "bincount.promoted" in version.tags


def write_outcome(settings: Settings, version: Version, *, promoted: bool, reason: str) -> None:
    """Notes on a version and on its run what came of it in the end."""
    tags = {"bincount.promoted": str(promoted).lower(), "bincount.reason": reason}
    model_registry.describe(settings, version.version, tags=tags)
    runs.log_tags(settings, version.run_id, tags)
