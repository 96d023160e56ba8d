"""Whether a model may become the champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bincount.config import GateLimits
from bincount.evaluate.quality_checks import Check, Scores, quality_checks


@dataclass(frozen=True)
class Comparison:
    """The challenger beside the champion, on the same bins, which neither learned from.

    Attributes:
        champion: The champion's version.
        bins: Number of bins compared.
        rps_difference: 95 % interval of the challenger's RPS minus the champion's.
        recalls: By count, the challenger's and the champion's recall.
    """

    champion: str
    bins: int
    rps_difference: tuple[float, float]
    recalls: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Decision:
    """The gate's answer: `reason` is one sentence, `checks` every rule that applied."""

    promoted: bool
    reason: str
    checks: tuple[Check, ...]


def decide(scores: Scores, comparison: Comparison | None = None, limits: GateLimits | None = None) -> Decision:
    """Decides whether a challenger becomes the champion.

    Args:
        scores: The challenger on its test part.
        comparison: The challenger beside the champion; None where there is no
            champion, and then the champion's part of the rules does not apply.
        limits: The thresholds.

    Example:
        >>> scores = Scores(500, 400, 0.48, 0.22, 1.20, 1.58, (-0.42, -0.33), 0.03, 0.03)
        >>> decide(scores).promoted, decide(scores, limits=GateLimits(groups=401)).reason
        (True, 'Not promoted: only 400 groups of test bins, where at least 401 are needed to judge.')
    """
    limits = limits or GateLimits()
    checks = quality_checks(scores, limits) + (_relative(comparison, limits) if comparison else ())
    failed = [check.figures for check in checks if not check.met]
    if failed:
        return Decision(False, f"Not promoted: {'; '.join(failed)}.", checks)
    versus = f", and it is no worse than champion version {comparison.champion}" if comparison else ""
    return Decision(True, f"Promoted: {checks[1].figures}, {checks[2].figures}{versus}.", checks)


def _relative(comparison: Comparison, limits: GateLimits) -> tuple[Check, ...]:
    version = f"champion version {comparison.champion}"
    if not comparison.bins:
        nothing = f"no test bin is left that neither it nor {version} learned from and both can count"
        return (Check("compared", False, nothing),)
    worst = comparison.rps_difference[1]
    falls = {count: champion - challenger for count, (challenger, champion) in comparison.recalls.items()}
    deepest = max(falls, key=lambda count: falls[count])
    ours, theirs = comparison.recalls[deepest]
    return (
        Check(
            "rps",
            worst <= limits.rps_worse,
            f"its ranked probability score may be {worst:+.3f} worse than that of {version} "
            f"on {comparison.bins} bins, where {limits.rps_worse} is allowed",
        ),
        Check(
            "recall",
            falls[deepest] <= limits.recall_fall + 1e-9,
            f"it finds {ours:.1%} of the bins with {deepest}, where {version} finds {theirs:.1%}",
        ),
    )
