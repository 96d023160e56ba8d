"""Decisions about versions, stored as tags for programs and in the description for people."""

from __future__ import annotations

import dataclasses
import json

from bincount.config import GateLimits
from bincount.registry.gate_rules import ACCEPTED, REFUSED
from bincount.settings import Settings
from bincount.tracking import model_registry, runs
from bincount.tracking.model_registry import Version

NO_CHAMPION = "none"
"""Stands for the champion's version where there is no champion."""

GATE = "gate"
"""`StoredDecision.by` of a decision that no person made."""

DESCRIPTION_CHARACTERS = 5000
"""MLflow's database cuts longer descriptions of a version."""

_DECISION = "bincount.decision"


@dataclasses.dataclass(frozen=True)
class StoredDecision:
    """A decision, valid for the champion and the limits that it is based on.

    Attributes:
        outcome: `gate_rules.ACCEPTED`, `REFUSED` or `UNDECIDED`.
        reason: One sentence.
        against: The champion's version, or `NO_CHAMPION`.
        limits: The gate's limits.
        by: "gate", or the person who decided.
    """

    outcome: str
    reason: str
    against: str
    limits: dict[str, float | str | None]
    by: str = GATE

    @property
    def agreed(self) -> bool:
        """True if the version may become champion without an approval."""
        return self.outcome == ACCEPTED


def new_decision(
    settings: Settings, champion: str | None, *, outcome: str, reason: str, by: str = GATE
) -> StoredDecision:
    """A decision for the current champion and limits."""
    return StoredDecision(outcome, reason, champion or NO_CHAMPION, dataclasses.asdict(settings.gate), by)


def stored_decision(settings: Settings, version: Version, champion: str | None) -> StoredDecision | None:
    """The stored decision on a version; None if it was made against another champion or with other limits.

    Two decisions stay valid: one on the present champion, although it was made against the champion before, and a
    person's refusal, although the limits have changed.
    """
    try:
        stored = StoredDecision(**json.loads(version.tags[_DECISION]))
    except (KeyError, TypeError, ValueError):
        return None
    if champion != version.version and stored.against != (champion or NO_CHAMPION):
        return None
    is_final = stored.by != GATE and stored.outcome == REFUSED
    return stored if is_final or _figures_of(stored.limits) == _figures_of(dataclasses.asdict(settings.gate)) else None


def _figures_of(limits: dict[str, float | str | None]) -> dict[str, float | str | None]:
    """Limits in a form that can be compared.

    The folder of the shadow's log is left out, since its path differs between machines. Limits that an earlier release
    did not store have their defaults.
    """
    known = dataclasses.asdict(GateLimits()) | limits
    return {name: value for name, value in known.items() if name != "shadow_log"}


def write_decision(settings: Settings, version: str, decision: StoredDecision, title: str, text: str) -> None:
    """Stores a decision on a version and shows it in the version's description.

    Args:
        settings: Names the tracking server.
        version: The version.
        decision: The decision.
        title: Title of the description's section, which replaces an earlier one.
        text: The section's Markdown.
    """
    write_section(settings, version, title, text, tags={_DECISION: json.dumps(dataclasses.asdict(decision))})


def write_section(settings: Settings, version: str, title: str, text: str, *, tags: dict[str, str]) -> None:
    """Writes tags on a version and replaces a section of its description."""
    before, *sections = model_registry.version_of(settings, version).description.split("\n\n## ")
    others = [each for each in sections if each.partition("\n")[0] != title]
    tail = f"\n\n## {title}\n\n{text.strip()}\n"
    description = "\n\n## ".join([before, *others]).rstrip()
    model_registry.describe(
        settings, version, tags=tags, description=description[: DESCRIPTION_CHARACTERS - len(tail)] + tail
    )


def is_decided(version: Version) -> bool:
    """True if the version was promoted or refused before."""
    return "bincount.promoted" in version.tags


def write_result(settings: Settings, version: Version, *, promoted: bool, reason: str) -> None:
    """Notes on a version and on its run what came of it in the end."""
    tags = {"bincount.promoted": str(promoted).lower(), "bincount.reason": reason}
    model_registry.describe(settings, version.version, tags=tags)
    runs.log_tags(settings, version.run_id, tags)
