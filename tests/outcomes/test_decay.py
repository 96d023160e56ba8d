"""Outcomes beside what the worklist stated of the same bins: few false alarms, few misses."""

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bincount.config import DecayLimits
from bincount.counts import Counts
from bincount.mismatch.posterior import posterior_of
from bincount.outcomes.decay import (
    MIN_BINS,
    MISTAKES,
    decay_of,
    decay_over_time,
    facts_of,
    sentences_of,
    statements_of,
    tail_bound,
)
from bincount.outcomes.outcome_store import JoinedOutcome, Outcome
from bincount.outcomes.worklist_reader import Origin, Stated, WorklistRow
from tests.simulated import simulate

LIMITS = DecayLimits()
FLAT = (0.2,) * 5
ORIGIN = Origin("w", "s3://b", "1", "m", "1-5", FLAT, is_source=False)


def row_of(bin_id, recorded, counted, *, wrong=0.5, low=2, high=4, when="2026-11-20", probabilities=FLAT, **about):
    """A counted bin with what was stated of it."""
    stated = Stated(wrong, low, high, about.pop("temperature", 1.0))
    listed = WorklistRow(
        str(bin_id), 1, recorded, probabilities, about.pop("learned", False), about.pop("stated", stated)
    )
    return JoinedOutcome(listed, Outcome(str(bin_id), f"{when}T00:00:00+00:00", counted))


BINS = 2000


def alarms_of(lists, *, rate, stated_rate, count, how="worst", mixed_up=0.0, sureness=1.0):
    """How many of some lists of `BINS` bins are a decay, counted from the top or at random.

    A share of the photos may be those of other bins.
    """
    rng = np.random.default_rng(0)
    all_bins = simulate(0, bins=BINS * lists, rate=rate, sureness=sureness)
    origin = dataclasses.replace(ORIGIN, prior=tuple(all_bins.prior.tolist()))
    alarms = 0
    for part in range(lists):
        made = all_bins.subset(np.arange(BINS) + BINS * part)
        moved = np.flatnonzero(rng.random(BINS) < mixed_up)
        made.probabilities[moved] = made.probabilities[rng.permutation(moved)]
        wrong = posterior_of(
            made.probabilities, made.recorded, made.counts, made.prior, error_rate=stated_rate
        ).probability
        listed = np.argsort(-wrong)[:count] if how == "worst" else rng.choice(BINS, count, replace=False)
        likely = made.probabilities >= 0.08
        low, high = 1 + likely.argmax(axis=1), 5 - likely[:, ::-1].argmax(axis=1)
        rows = [
            row_of(
                20_000 + row,
                int(made.recorded[row]),
                int(made.counted[row]),
                wrong=round(float(wrong[row]), 6),
                low=int(low[row]),
                high=int(high[row]),
                probabilities=tuple(made.probabilities[row].tolist()),
            )
            for row in listed.tolist()
        ]
        alarms += bool(decay_of(origin, rows, LIMITS)["beyond"])
    return alarms


@pytest.mark.parametrize(
    ("recorded", "counted", "low", "high", "counts", "inside", "covered"),
    [
        (3, 3, 2, 4, "1-5", True, True),
        (3, 5, 2, 4, "1-5", True, False),
        (5, 3, 2, 4, "1-5", False, True),
        (3, 0, 1, 5, "1-5", False, False),  # none of the model's counts
        (9, 9, 2, 4, "1-4+", False, False),
        (9, 7, 3, 5, "1-4+", True, True),  # both in the open class, whose lowest count is 5
    ],
)
def test_what_an_interval_includes(recorded, counted, low, high, counts, inside, covered):
    found = statements_of([row_of(1, recorded, counted, low=low, high=high)], Counts.parse(counts), FLAT)
    assert (found.recorded_inside.tolist(), found.covered.tolist()) == ([inside], [covered])
    assert found.wrong.tolist() == [recorded != counted]


def test_the_stated_probability_of_an_interval_is_that_of_the_counts_in_it():
    """One count at a time, the intervals of a bin share its whole probability."""
    shown = (0.1, 0.2, 0.4, 0.2, 0.1)
    rows = [row_of(at, 3, 3, wrong=0.3, low=at, high=at, probabilities=shown, temperature=2.0) for at in range(1, 6)]
    found = statements_of(rows, Counts.parse("1-5"), FLAT)
    coverage = found.coverage(found.stated)
    assert coverage.sum() == pytest.approx(1)
    assert coverage[2] == pytest.approx(0.7)  # the record's own count: it is right
    assert coverage[1] > coverage[4] > 0  # one item fewer is the most usual error


def exact_tail(probability, total):
    """The probability that so many of a few events happen, by listing every case."""
    cases = product((0, 1), repeat=len(probability))
    return sum(np.where(case, probability, 1 - probability).prod() for case in cases if sum(case) >= total)


@given(st.lists(st.floats(0, 0.99), min_size=1, max_size=7), st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_a_bound_is_never_below_the_probability(probability, total):
    probability = np.asarray(probability)
    ones = np.ones(len(probability))
    bound = tail_bound(probability, ones, 0 * ones, min(total, len(probability)))
    assert exact_tail(probability, min(total, len(probability))) <= bound * (1 + 1e-6) + 1e-9
    assert bound <= 1


def test_a_bound_is_not_far_above_it():
    assert 1 < tail_bound(np.full(10, 0.2), np.ones(10), np.zeros(10), 7) / exact_tail(np.full(10, 0.2), 7) < 10


def test_counts_without_a_class_say_nothing_of_intervals():
    rows = [row_of(bin_id, 1, 0, wrong=0.9, low=2, high=4) for bin_id in range(40)]
    decay = decay_of(ORIGIN, rows, LIMITS)
    assert "coverage" not in decay["facts"]
    assert decay["beyond"] == []


def test_one_surprise_is_no_decay():
    """A person who miscounts, or a count that the model has no class for, does not raise an alarm."""
    surprise = row_of(1, 3, 0, wrong=0.000001, low=1, high=5)
    assert decay_of(ORIGIN, [surprise], LIMITS)["beyond"] == []
    calm = [row_of(bin_id, 3, 3, wrong=0.000001, low=1, high=5) for bin_id in range(2, 50)]
    assert decay_of(ORIGIN, [surprise, *calm], LIMITS)["beyond"] == []
    assert MISTAKES == 0.01


@given(st.permutations(range(12)), st.integers(1, 11))
@settings(max_examples=25, deadline=None)
def test_neither_order_nor_parts_matter(order, first):
    rows = [row_of(number, 3, 3 if number % 3 else 5, wrong=0.1 + number / 20) for number in range(12)]
    whole = decay_of(ORIGIN, rows, LIMITS)
    again = [rows[number] for number in order]
    assert decay_of(ORIGIN, [*again, *again[:first]], LIMITS) == whole


def test_the_figures_of_a_list():
    rows = [row_of(number, 5, 5, wrong=0.8, when=f"2026-11-{21 + number % 2}") for number in range(40)]
    rows[0] = row_of(0, 5, 4, wrong=0.8, when="2026-11-20")
    decay = decay_of(ORIGIN, rows, LIMITS)
    assert (decay["bins"], decay["wrong"], decay["first"], decay["last"]) == (40, 1, "2026-11-20", "2026-11-22")
    found, brier, coverage = (decay["facts"][name] for name in ("found", "brier", "coverage"))
    assert (found["value"], found["expected"]) == (0.025, 0.8)
    assert (brier["value"], brier["expected"]) == (pytest.approx((39 * 0.64 + 0.04) / 40, abs=1e-6), 0.16)
    assert coverage["value"] == 0.025
    assert 0.5 < coverage["expected"] < 0.8
    assert decay["beyond"] == ["coverage", "brier", "found"]
    assert next(sentences_of(decay)).startswith("coverage is 0.025 in 40 counted bins, 0.")
    never = decay_of(ORIGIN, rows, DecayLimits(coverage=0, brier=0, found=0))
    assert never["beyond"] == []


def test_a_few_bins_are_no_decay():
    rows = [row_of(number, 5, 5, wrong=0.99) for number in range(MIN_BINS)]
    few = decay_of(ORIGIN, rows[1:], LIMITS)
    assert few["facts"]["found"]["p_value"] < 1e-6
    assert few["beyond"] == []
    assert decay_of(ORIGIN, rows, LIMITS)["beyond"] == ["coverage", "brier", "found"]


def test_bins_without_an_interval_are_judged_by_the_rest():
    """As where the products on the record were judged too."""
    rows = [row_of(number, 5, 5, wrong=0.8, low=None, high=None) for number in range(40)]
    assert decay_of(ORIGIN, rows, LIMITS)["beyond"] == ["brier", "found"]
    mixed = decay_of(ORIGIN, [*rows, row_of(99, 5, 5)], LIMITS)["facts"]
    assert (mixed["coverage"]["bins"], mixed["brier"]["bins"]) == (1, 41)


def test_what_cannot_be_compared_is_left_out():
    learned, earlier = row_of(1, 3, 3, learned=True), row_of(2, 3, 3, stated=None)
    assert decay_of(ORIGIN, [learned, earlier], LIMITS) is None
    in_conflict = [row_of(3, 3, 3), row_of(3, 3, 4)]
    assert decay_of(ORIGIN, in_conflict, LIMITS) is None
    assert decay_of(ORIGIN, [learned, earlier, *in_conflict, row_of(4, 3, 3)], LIMITS)["bins"] == 1


def test_worklists_stand_in_the_order_in_which_they_were_counted():
    stored = {
        dataclasses.replace(ORIGIN, worklist=name, source=source): [row_of(1, 3, 3, when=when)]
        for name, source, when in [
            ("b", "s3://b", "2026-11-22"),
            ("a", "s3://b", "2026-11-20"),
            ("c", "s3://c", "2026-11-21"),
        ]
    }
    over_time = decay_over_time(stored, source="s3://b", limits=LIMITS)
    assert [each["worklist"] for each in over_time] == ["a", "b"]


@pytest.mark.parametrize(
    ("how", "count", "rate", "stated_rate"),
    [
        ("worst", 50, 0.02, 0.02),
        ("worst", 50, 0.008, 0.02),  # the lowest rate that is no decay: the hardest case
        ("worst", 50, 0.05, 0.02),
        ("worst", 300, 0.1, 0.1),
        ("random", 200, 0.05, 0.05),
    ],
)
def test_a_sound_model_seldom_raises_an_alarm(how, count, rate, stated_rate):
    """Bounded by 9 of 1,000 imports, the sum of the limits; in 100 draws 4 or more would be rarer than 1 in 60."""
    assert alarms_of(100, how=how, count=count, rate=rate, stated_rate=stated_rate) <= 3


@pytest.mark.parametrize(
    ("worse", "rate", "least"),
    [({"mixed_up": 1.0}, 0.02, 19), ({"mixed_up": 0.5}, 0.1, 18), ({"sureness": 2.0}, 0.02, 19)],
)
def test_a_model_that_became_worse_raises_one(worse, rate, least):
    """The worst 50 of 2,000 bins are counted; all or half of the photos are of other bins, or it is overconfident."""
    assert alarms_of(20, count=50, rate=rate, stated_rate=rate, **worse) >= least


def test_facts_do_not_fail_at_the_ends():
    for wrong in (0.0, 1.0):
        rows = [row_of(number, 3, 3 if number else 4, wrong=wrong, low=1, high=5) for number in range(3)]
        facts = facts_of(statements_of(rows, Counts.parse("1-5"), FLAT), LIMITS)
        assert all(0 < fact["p_value"] <= 1 for fact in facts.values())
