"""The gate's checks of a model by itself: enough test bins, better than both baselines, calibrated."""

from __future__ import annotations

from dataclasses import dataclass

from bincount.config import GateLimits


@dataclass(frozen=True)
class Scores:
    """The figures of an evaluation that the gate reads.

    Attributes:
        bins: Number of test bins.
        groups: Number of groups they lie in.
        exact: Share counted exactly.
        largest_class: Share of the largest class among the same bins.
        nll: Mean negative log likelihood.
        prior_nll: That of the class prior.
        nll_difference: 95 % interval of `nll` minus `prior_nll`.
        ece: Expected calibration error.
        ece_by_chance: What it stays below for 95 % of perfectly calibrated models.
    """

    bins: int
    groups: int
    exact: float
    largest_class: float
    nll: float
    prior_nll: float
    nll_difference: tuple[float, float]
    ece: float
    ece_by_chance: float


def gate_scores(evaluation: dict) -> Scores:
    """The figures that the gate reads, from those of `evaluate_predictions`."""
    figures = evaluation["metrics"]
    return Scores(
        bins=figures["bins"],
        groups=figures["groups"],
        exact=figures["exact"],
        largest_class=figures["largest_class"],
        nll=figures["nll"],
        prior_nll=figures["prior_nll"],
        nll_difference=tuple(evaluation["differences"]["nll"]),
        ece=figures["ece"],
        ece_by_chance=figures["ece_by_chance"],
    )


@dataclass(frozen=True)
class Check:
    """One rule of the gate.

    Attributes:
        rule: Its name.
        met: Whether it is met; None where there are too few test bins to tell.
        figures: A clause of a sentence.
    """

    rule: str
    met: bool | None
    figures: str


def quality_checks(scores: Scores, limits: GateLimits) -> tuple[Check, ...]:
    """Checks an evaluation against the limits, with no champion to compare with.

    Returns:
        The rules "groups", "exact", "nll" and "ece", in this order.
    """
    low, high = scores.nll_difference
    beats = scores.exact > scores.largest_class
    better = high < 0
    allowed = max(limits.ece, scores.ece_by_chance)
    enough = scores.groups >= limits.groups
    return (
        Check(
            "groups",
            enough,
            f"{'' if enough else 'only '}{scores.groups} groups of test bins, "
            f"where at least {limits.groups} are needed to judge",
        ),
        Check(
            "exact",
            beats,
            f"it counts {scores.exact:.1%} of {scores.bins} test bins exactly, "
            f"{'where' if beats else 'and'} always answering the largest class gets {scores.largest_class:.1%}",
        ),
        Check(
            "nll",
            better,
            f"its NLL is {scores.nll:.3f} to the class prior's {scores.prior_nll:.3f} "
            f"(difference {low:+.3f} to {high:+.3f}{'' if better else ', which must be below 0'})",
        ),
        Check(
            "ece",
            scores.ece <= allowed,
            f"its calibration error is {scores.ece:.3f}, where {limits.ece} is allowed "
            f"and chance explains {scores.ece_by_chance:.3f}",
        ),
    )
