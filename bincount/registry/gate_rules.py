"""The gate's rules: whether a model may become the champion. Pure functions.

The rules against the champion are tests with stated error rates; docs/decisions/gate.md
says how they were chosen and how often each outcome occurs. The rules for a model
by itself are in evaluate/gate_checks.py, since the model card shows them too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy import special

from bincount.config import GateLimits
from bincount.evaluate.gate_checks import Check, Scores, quality_checks

ACCEPTED, REFUSED, UNDECIDED = "accepted", "refused", "undecided"

SHADOW = "shadow"
"""Name of the rule that a challenger has answered enough photos as shadow.

Unlike the others, it may be met later although champion and limits are the same, so it is checked again."""

ERROR = 0.05
"""Largest probability of accepting a model that is worse by the margin, and of a false alarm about any recall."""

POWER = 0.80
"""Least probability of accepting an equally good model, where the test bins suffice to decide."""


@dataclass(frozen=True)
class RecallPair:
    """Recall of two models on the bins of one count.

    Attributes:
        groups: Number of groups among these bins.
        challenger: The challenger's recall.
        champion: The champion's recall.
        lost: Share of the bins that only the champion counts exactly.
        gained: Share of the bins that only the challenger counts exactly.
    """

    groups: int
    challenger: float
    champion: float
    lost: float
    gained: float

    def smallest_fall(self, comparisons: int) -> float:
        """Lower confidence bound of the fall in recall, with Bonferroni's correction for several counts.

        Args:
            comparisons: Number of counts that are compared.

        Source:
            Bonett and Price, Adjusted Wald intervals for a difference of binomial proportions based on paired data,
            2012. Groups take the place of bins, so siblings do not count twice.

        Example:
            >>> [round(RecallPair(groups, 0.3, 0.6, 0.4, 0.1).smallest_fall(5), 2) for groups in (20, 100, 1000)]
            [-0.07, 0.14, 0.25]
        """
        number = self.groups + 2
        lost, gained = ((share * self.groups + 1) / number for share in (self.lost, self.gained))
        error = math.sqrt((lost + gained - (lost - gained) ** 2) / number)
        return lost - gained - float(special.ndtri(1 - ERROR / comparisons)) * error


@dataclass(frozen=True)
class Comparison:
    """The challenger and the champion on the same bins, which neither learned from.

    Attributes:
        champion: The champion's version.
        bins: Number of bins compared.
        groups: Number of groups they lie in.
        rps_difference: Mean of the challenger's RPS minus the champion's, in items.
        standard_error: Of `rps_difference`, over groups.
        recalls: By count.
    """

    champion: str
    bins: int
    groups: int
    rps_difference: float
    standard_error: float
    recalls: Mapping[str, RecallPair]

    @property
    def bounds(self) -> tuple[float, float]:
        """One-sided 95 % confidence bounds of `rps_difference`, which together are a 90 % interval."""
        width = float(special.stdtrit(self.groups - 1, 1 - ERROR)) * self.standard_error
        return self.rps_difference - width, self.rps_difference + width

    def bins_needed(self, limits: GateLimits) -> int:
        """Number of test bins on which an equally good model is accepted with a probability of `POWER`.

        Computed from the observed spread of the paired differences, or from the
        number of groups where it is below the limit; two digits, rounded up.
        """
        factor = limits.groups / self.groups
        if factor <= 1:
            quantiles = float(special.ndtri(1 - ERROR) + special.ndtri(POWER))
            factor = (quantiles * self.standard_error / limits.rps_worse) ** 2
        needed = math.ceil(self.bins * factor)
        unit = 10 ** max(0, len(str(needed)) - 2)
        return -(-needed // unit) * unit


@dataclass(frozen=True)
class Decision:
    """The gate's answer.

    Attributes:
        outcome: `ACCEPTED`, `REFUSED`, or `UNDECIDED` where there are too few test bins to tell.
        reason: One sentence.
        checks: Every rule that applied.
    """

    outcome: str
    reason: str
    checks: tuple[Check, ...]


def decide(
    scores: Scores,
    comparison: Comparison | None = None,
    limits: GateLimits | None = None,
    shadowed: int = 0,
) -> Decision:
    """Decides whether a challenger may become the champion.

    | other checks            | RPS difference                          | outcome   |
    |-------------------------|-----------------------------------------|-----------|
    | one fails               | any                                     | refused   |
    | all pass                | no champion                             | accepted  |
    | all pass                | upper bound at most `limits.rps_worse`  | accepted  |
    | all pass                | above, and lower bound above 0          | refused   |
    | all pass                | above, and test bins suffice            | refused   |
    | all pass                | above, and too few test bins            | undecided |

    Args:
        scores: The challenger's, on its test part.
        comparison: The challenger and the champion; None where there is no champion.
        limits: The thresholds.
        shadowed: Number of different photos that the challenger answered as shadow; only where there is a
            champion and `limits.shadow_photos` is set.

    Example:
        >>> scores = Scores(500, 400, 0.48, 0.22, 1.20, 1.58, (-0.42, -0.33), 0.03, 0.03)
        >>> decide(scores).outcome, decide(scores, limits=GateLimits(groups=401)).reason
        ('accepted', 'Not promoted: only 400 groups of test bins, where at least 401 are needed to judge.')
    """
    limits = limits or GateLimits()
    checks = quality_checks(scores, limits)
    if comparison:
        checks += (*_shadow_checks(shadowed, limits), *_relative_checks(comparison, limits))
    if failed := [check.figures for check in checks if check.met is False]:
        return Decision(REFUSED, f"Not promoted: {'; '.join(failed)}.", checks)
    if unclear := [check.figures for check in checks if check.met is None]:
        return Decision(UNDECIDED, f"Cannot tell yet: {'; '.join(unclear)}.", checks)
    versus = f", and it is no worse than champion version {comparison.champion}" if comparison else ""
    return Decision(ACCEPTED, f"Promoted: {checks[1].figures}, {checks[2].figures}{versus}.", checks)


def _shadow_checks(shadowed: int, limits: GateLimits) -> tuple[Check, ...]:
    """The rule "shadow", where it is set."""
    if not limits.shadow_photos:
        return ()
    met = shadowed >= limits.shadow_photos
    only = "" if met else "only "
    figures = f"it has answered {only}{shadowed:,} photos as shadow, where at least {limits.shadow_photos:,} are wanted"
    return (Check(SHADOW, met, figures),)


def _relative_checks(comparison: Comparison, limits: GateLimits) -> tuple[Check, ...]:
    """The rule "rps", and "recall" once for each count."""
    version = f"champion version {comparison.champion}"
    if not comparison.bins:
        nothing = f"no test bin is left that neither it nor {version} learned from and both can count"
        return (Check("rps", None, nothing),)
    rps = _rps_check(comparison, limits, version)
    if comparison.groups < limits.groups:
        return (rps,)
    recalls = []
    for count, pair in comparison.recalls.items():
        fall = pair.smallest_fall(len(comparison.recalls))
        met = fall <= limits.recall_fall
        shown = "" if met else f", a fall of at least {fall:.1%} where {limits.recall_fall:.1%} is allowed"
        figures = f"it finds {pair.challenger:.1%} of the bins with {count}, where {version} finds {pair.champion:.1%}"
        recalls.append(Check("recall", met, figures + shown))
    return rps, *recalls


def _rps_check(comparison: Comparison, limits: GateLimits, version: str) -> Check:
    needed = comparison.bins_needed(limits)
    if comparison.groups < limits.groups:
        few = f"only {comparison.groups} groups of test bins can be compared with {version}"
        return Check("rps", None, f"{few}, about {needed:,} test bins are needed")
    low, high = comparison.bounds
    figures = (
        f"its ranked probability score differs from that of {version} by {comparison.rps_difference:+.3f} "
        f"(90 % interval {low:+.3f} to {high:+.3f}) on {comparison.bins} bins, where {limits.rps_worse:+g} is allowed"
    )
    if high <= limits.rps_worse:
        return Check("rps", True, figures)
    if low > 0 or needed <= comparison.bins:
        return Check("rps", False, figures)
    return Check("rps", None, f"{figures}, about {needed:,} test bins are needed")
