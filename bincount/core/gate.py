"""Whether a model may become the champion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from bincount.core.errors import ConfigError
from bincount.core.named_numbers import read_numbers


@dataclass(frozen=True)
class Limits:
    """What the gate asks for.

    Attributes:
        groups: Fewest groups of test bins to judge by; with fewer the intervals mean nothing.
        ece: Largest expected calibration error, unless so few bins show a larger one by chance.
        rps_worse: How much worse than the champion's the ranked probability
            score may be, in items, at the upper end of its 95 % interval.
        recall_fall: How far any count's recall may fall below the champion's.

    Raises:
        ConfigError: If one is out of its range.
    """

    groups: int = 20
    ece: float = 0.05
    rps_worse: float = 0.01
    recall_fall: float = 0.10

    def __post_init__(self) -> None:
        if self.groups < 2:
            raise ConfigError(f"gate: groups must be >= 2, got {self.groups}. With one there is nothing to draw from.")
        for name in ("ece", "rps_worse", "recall_fall"):
            value = getattr(self, name)
            if not 0 <= value <= 1:  # not a number is neither
                raise ConfigError(f"gate: {name} must be from 0 to 1, got {value}. Name a share or a score.")

    @classmethod
    def parse(cls, text: str) -> Limits:
        """Reads "ece=0.03,groups=50"; what is not named stays as it is.

        Raises:
            ConfigError: If a name is unknown or a value out of range.

        Example:
            >>> Limits.parse("ece=0.03,groups=50")
            Limits(groups=50, ece=0.03, rps_worse=0.01, recall_fall=0.1)
        """
        types: dict[str, Callable[[str], Any]] = {field.name: type(field.default) for field in fields(cls)}
        return cls(**read_numbers(text, types, "gate"))


@dataclass(frozen=True)
class Scores:
    """What the gate needs to know of a model's evaluation on its test part.

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
class Check:
    """One rule of the gate, whether it is met, and the figures as a clause of a sentence."""

    rule: str
    met: bool
    figures: str


@dataclass(frozen=True)
class Decision:
    """The gate's answer: `reason` is one sentence, `checks` every rule that applied."""

    promoted: bool
    reason: str
    checks: tuple[Check, ...]


def decide(scores: Scores, comparison: Comparison | None = None, limits: Limits | None = None) -> Decision:
    """Decides whether a challenger becomes the champion.

    Args:
        scores: The challenger on its test part.
        comparison: The challenger beside the champion; None where there is no
            champion, and then the champion's part of the rules does not apply.
        limits: The thresholds.

    Example:
        >>> scores = Scores(500, 400, 0.48, 0.22, 1.20, 1.58, (-0.42, -0.33), 0.03, 0.03)
        >>> decide(scores).promoted, decide(scores, limits=Limits(groups=401)).reason
        (True, 'Not promoted: only 400 groups of test bins, where at least 401 are needed to judge.')
    """
    limits = limits or Limits()
    checks = _absolute(scores, limits) + (_relative(comparison, limits) if comparison else ())
    failed = [check.figures for check in checks if not check.met]
    if failed:
        return Decision(False, f"Not promoted: {'; '.join(failed)}.", checks)
    versus = f", and it is no worse than champion version {comparison.champion}" if comparison else ""
    return Decision(True, f"Promoted: {checks[1].figures}, {checks[2].figures}{versus}.", checks)


def _absolute(scores: Scores, limits: Limits) -> tuple[Check, ...]:
    low, high = scores.nll_difference
    beats = scores.exact > scores.largest_class
    surprised_less = high < 0
    allowed = max(limits.ece, scores.ece_by_chance)
    return (
        Check(
            "groups",
            scores.groups >= limits.groups,
            f"only {scores.groups} groups of test bins, where at least {limits.groups} are needed to judge",
        ),
        Check(
            "exact",
            beats,
            f"it counts {scores.exact:.1%} of {scores.bins} test bins exactly, "
            f"{'where' if beats else 'and'} always answering the largest class gets {scores.largest_class:.1%}",
        ),
        Check(
            "nll",
            surprised_less,
            f"its NLL is {scores.nll:.3f} to the class prior's {scores.prior_nll:.3f} "
            f"(difference {low:+.3f} to {high:+.3f}{'' if surprised_less else ', which must be below 0'})",
        ),
        Check(
            "ece",
            scores.ece <= allowed,
            f"its calibration error is {scores.ece:.3f}, where {limits.ece} is allowed "
            f"and chance explains {scores.ece_by_chance:.3f}",
        ),
    )


def _relative(comparison: Comparison, limits: Limits) -> tuple[Check, ...]:
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
