"""Rates at which the gate's rules accept, refuse or are undecided: the tables of docs/decisions/gate.md.

    python -m benchmarks.gate [--draws 400] [--bins 134 770 2500 20000] [--calibration]

Against the champion: two calibrated models see the number of items of a bin through normal noise, of which they share a
part: 0.9 is a network trained again with another seed, 0.2 a network of another kind. The champion counts half of the
bins exactly. The challenger's noise is set so that its expected ranked probability score (RPS) is equal, 5 % better,
worse by the margin, or worse by twice the margin. Every tenth photo is a sibling of the one before it, with the same
noise.

With `--calibration`, of one model: the share of models refused for their calibration error (ECE), where the probability
of a right answer is the confidence (0.37 on average), or lower than it by so much.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

from bincount.config import GateLimits
from bincount.counts import Counts
from bincount.dataset.manifest import Record
from bincount.evaluate.gate_checks import Scores
from bincount.evaluate.metrics import calibration_per_bin, ece_by_chance, predicted_class, values_per_bin
from bincount.registry.comparison import compare
from bincount.registry.gate_rules import ACCEPTED, REFUSED, UNDECIDED, decide

COUNTS = Counts.parse("1-5")
SHARED = {"correlated": 0.9, "nearly independent": 0.2}
NOISE = 1.0
"""Standard deviation of the champion's noise, in items: it counts 51 % exactly, with an RPS of 0.40."""

_GOOD = Scores(1000, 1000, 0.5, 0.2, 1.2, 1.6, (-0.5, -0.3), 0.02, 0.02)


def posterior(seen: np.ndarray, noise: float) -> np.ndarray:
    """(N, 5) distributions over counts, given (N,) values seen through noise."""
    return softmax(-((np.asarray(COUNTS.values) - seen[:, None]) ** 2) / (2 * noise**2), axis=1)


def expected_rps(noise: float) -> float:
    """Expected RPS of a model with this noise."""
    truth = np.tile(np.arange(len(COUNTS)), 40_000)
    drawn = np.random.default_rng(0).normal(size=len(truth))
    return float(values_per_bin(posterior(truth + 1 + noise * drawn, noise), truth, COUNTS)["rps"].mean())


def noise_for(rps: float) -> float:
    """The noise at which a model has this expected RPS."""
    return float(brentq(lambda noise: expected_rps(noise) - rps, 0.3, 3, xtol=1e-4))


def outcomes_of(bins: int, shared: float, noise: float, draws: int, limits: GateLimits) -> Counter[str]:
    """Share of each outcome."""
    rng = np.random.default_rng([bins, int(100 * shared), int(1e4 * noise)])
    member = np.arange(bins) - (np.arange(bins) % 10 == 9)
    truth = rng.integers(1, 6, bins)[member]
    records = [
        Record(f"{row:05d}", str(group), int(count), "test", 1, 9, 9, 9, "", 0, 0)
        for row, (group, count) in enumerate(zip(member, truth, strict=True))
    ]
    counts_by_outcome: Counter[str] = Counter()
    for _ in range(draws):
        common, ours, theirs = rng.normal(size=(3, bins))[:, member]
        challenger, champion = (
            (posterior(truth + scale * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own), scale), COUNTS)
            for scale, own in ((noise, ours), (NOISE, theirs))
        )
        counts_by_outcome[decide(_GOOD, compare("1", records, challenger, champion), limits).outcome] += 1
    return counts_by_outcome


def refusals_of(bins: int, off: float, draws: int, limits: GateLimits) -> dict[str, float]:
    """Refusals by each rule for the calibration error, among models drawn at random.

    Args:
        bins: Number of test bins.
        off: By how much the confidence is really too high.
        draws: Number of models.
        limits: Of the gate.

    Returns:
        `plain`, models with an ECE above the limit; `above mean`, above the mean by chance and the limit; `rule`,
        refused by the gate; and sums over models of the ECE by chance: of its means, `chance`, and 95 % quantiles,
        `by_chance_95`.
    """
    rng = np.random.default_rng([bins, int(100 * off)])
    answer: dict[str, float] = defaultdict(float)
    for _ in range(draws):
        probabilities = softmax(0.65 * rng.normal(size=(bins, len(COUNTS))), axis=1)
        confidence = probabilities.max(axis=1)

        def ece_if_right(chance: np.ndarray, probabilities: np.ndarray = probabilities) -> float:
            best = predicted_class(probabilities)
            truth = np.where(rng.random(bins) < chance, best, (best + 1) % len(COUNTS))
            return float(abs(calibration_per_bin(probabilities, truth).mean(axis=0)).sum())

        ece, largest = ece_if_right(confidence - off), ece_by_chance(probabilities)
        mean = float(np.mean([ece_if_right(confidence) for _ in range(40)]))
        answer["plain"] += ece > limits.ece
        answer["above mean"] += ece > mean + limits.ece
        answer["rule"] += ece > max(limits.ece, largest)
        answer["chance"] += mean
        answer["by_chance_95"] += largest
    return answer


def print_calibration(draws: int, limits: GateLimits) -> None:
    """Prints the table of the calibration error in Markdown."""
    print("| test bins | ECE by chance: mean, 95 % | really off by | plain | above the mean by chance | the rule |")
    print("|---|---|---|---|---|---|")
    for bins in (60, 240, 900):
        for off in (0.0, 0.05, 0.1):
            found = refusals_of(bins, off, draws, limits)
            shares = " | ".join(f"{found[rule] / draws:.0%}" for rule in ("plain", "above mean", "rule"))
            chance = f"{found['chance'] / draws:.3f}, {found['by_chance_95'] / draws:.3f}"
            print(f"| {bins} | {chance} | {off:.2f} | {shares} |", flush=True)


def main() -> None:
    """Prints one table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--bins", type=int, nargs="+", default=[134, 770, 2500, 20000])
    parser.add_argument("--calibration", action="store_true")
    options = parser.parse_args()
    limits = GateLimits()
    if options.calibration:
        print_calibration(options.draws, limits)
        return
    level, margin = expected_rps(NOISE), limits.rps_worse
    cases = {
        "equal": NOISE,
        "5 % better": noise_for(0.95 * level),
        "at the margin": noise_for(level + margin),
        "twice the margin": noise_for(level + 2 * margin),
    }
    print("| test bins | errors | challenger | accepted | refused | undecided |")
    print("|---|---|---|---|---|---|")
    for bins in options.bins:
        for errors, shared in SHARED.items():
            for case, noise in cases.items():
                counts_by_outcome = outcomes_of(bins, shared, noise, options.draws, limits)
                shares = " | ".join(
                    f"{counts_by_outcome[each] / options.draws:.0%}" for each in (ACCEPTED, REFUSED, UNDECIDED)
                )
                print(f"| {bins:,} | {errors} | {case} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
