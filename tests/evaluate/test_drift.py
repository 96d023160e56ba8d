"""Two halves of the same do not drift; what has changed does, however few values show it."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bincount.config import DriftLimits
from bincount.counts import Counts
from bincount.errors import ConfigError, DataError
from bincount.evaluate.drift import FACTS, Histogram, drift_of, psi, psi_by_chance, sentence_of
from bincount.evaluate.drift_baseline import FILE, DriftBaseline, distance_of
from bincount.schema import read_schema

COUNTS = Counts.parse("1-5")
EACH = st.lists(st.integers(0, 500), min_size=2, max_size=12)


def bins(rng, number, *, shift=0.0, mix=(0.25, 0.25, 0.2, 0.2, 0.1)):
    """Facts and (N, 20) features of bins; `shift` darkens and blurs them."""
    facts = {
        "predicted": rng.choice(5, number, p=mix) + 1,
        "recorded": rng.choice(5, number, p=mix) + 1,
        "confidence": rng.beta(4, 6, number),
        "width": rng.choice([320, 480, 640], number),
        "height": np.full(number, 640),
        "brightness": rng.normal(110 - 40 * shift, 20, number),
        "sharpness": rng.gamma(3, 100 * (1 - shift / 2), number),
    }
    return facts, rng.normal(shift, 1, (number, 20))


def held_against(reference, facts, features):
    facts = {**facts, "features": reference.distance(features, len(features))}
    return {name: each.emptied().plus(facts[name]) for name, each in reference.histograms.items()}


def test_an_index_worked_by_hand():
    shares = (0.5, 0.5), (0.75, 0.25)
    by_hand = (0.75 - 0.5) * np.log(0.75 / 0.5) + (0.25 - 0.5) * np.log(0.25 / 0.5)
    many = [[round(share * 1_000_000) for share in each] for each in shares]
    assert psi(*many) == pytest.approx(by_hand, rel=1e-4)
    assert psi([3, 1], [30, 10]) == pytest.approx(0, abs=0.01)
    assert np.isfinite(psi([10, 0], [0, 10]))


@given(EACH)
def test_the_index_is_symmetric_and_nothing_between_equals(seen):
    assert psi(seen, seen) == pytest.approx(0)
    other = seen[::-1]
    assert psi(seen, other) == pytest.approx(psi(other, seen))
    assert psi(seen, other) >= 0


def test_chance_is_what_draws_from_the_same_show():
    """The share of draws above it is one in a thousand, or less, as smoothing pulls shares together."""
    rng = np.random.default_rng(0)
    for then, now in ((300, 100), (800, 2000)):
        drawn = rng.multinomial(then, [0.1] * 10, 4000), rng.multinomial(now, [0.1] * 10, 4000)
        above = np.mean([psi(*pair) > psi_by_chance(10, then, now) for pair in zip(*drawn, strict=True)])
        assert above < 0.003
        close = np.mean([psi(*pair) > 0.5 * psi_by_chance(10, then, now) for pair in zip(*drawn, strict=True)])
        assert close > 0.02  # and not because it is far away


@given(st.lists(st.integers(-3, 3), max_size=60), st.lists(st.integers(-9, 9), max_size=60))
def test_a_histogram_counts_every_value_once_however_it_comes(first, second):
    whole = Histogram.of(np.asarray(first, dtype=float)).emptied().plus(np.asarray(second, dtype=float))
    pieces = Histogram.of(np.asarray(first, dtype=float)).emptied()
    for value in second:
        pieces = pieces.plus(np.asarray([value], dtype=float))
    assert whole == pieces
    assert whole.number == len(second)


def test_many_of_the_same_have_a_slot_of_their_own():
    """All photos 640 px wide: one that is 639 is not one of them."""
    all_same = Histogram.of(np.full(100, 640.0))
    assert all_same.seen == (0, 100, 0)
    assert all_same.emptied().plus(np.asarray([639.0, 640.0, 641.0])).seen == (1, 1, 1)


def test_two_halves_of_the_same_do_not_drift():
    rng = np.random.default_rng(1)
    alarms = 0
    for number in (60, 200, 800):
        for _ in range(40):
            reference = DriftBaseline.of(*bins(rng, number), COUNTS)
            drift = drift_of(reference.histograms, held_against(reference, *bins(rng, number)), DriftLimits())
            alarms += len(drift["beyond"])
    assert alarms <= 2  # of 960 facts


@pytest.mark.parametrize("number", [100, 1000])
def test_what_has_changed_drifts_and_nothing_else(number):
    rng = np.random.default_rng(2)
    reference = DriftBaseline.of(*bins(rng, 800), COUNTS)
    limits = DriftLimits()
    dark = drift_of(reference.histograms, held_against(reference, *bins(rng, number, shift=1.0)), limits)
    assert dark["beyond"] == ["brightness", "sharpness", "features"]
    assert (dark["compared"], dark["reference"]) == (number, 800)
    assert dark["facts"]["brightness"]["then"] == pytest.approx(110, abs=3)
    assert dark["facts"]["brightness"]["now"] == pytest.approx(70, abs=6)
    full = drift_of(
        reference.histograms, held_against(reference, *bins(rng, number, mix=(0, 0.1, 0.2, 0.3, 0.4))), limits
    )
    assert full["beyond"] == ["predicted", "recorded"]
    assert json.loads(json.dumps(full, allow_nan=False)) == full


def test_what_is_not_there_is_not_compared():
    rng = np.random.default_rng(3)
    facts, features = bins(rng, 50)
    reference = DriftBaseline.of(facts, None, COUNTS)
    assert set(reference.histograms) == set(FACTS) - {"features"}
    assert np.isnan(reference.distance(features, 50)).all()
    none = drift_of(
        reference.histograms, {n: each.emptied() for n, each in reference.histograms.items()}, DriftLimits()
    )
    assert none == {"compared": 0, "reference": 50, "facts": {}, "beyond": []}


def test_a_limit_may_be_wider_for_one_fact():
    rng = np.random.default_rng(4)
    reference = DriftBaseline.of(*bins(rng, 800), COUNTS)
    now = held_against(reference, *bins(rng, 800, mix=(0, 0.1, 0.2, 0.3, 0.4)))
    assert drift_of(reference.histograms, now, DriftLimits(recorded=20, predicted=20))["beyond"] == []


@pytest.mark.parametrize("wrong", ['{"colour": 1}', "recorded", '{"recorded": "much"}', '{"recorded": 0}'])
def test_a_wrong_limit_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"^drift: "):
        read_schema(wrong, DriftLimits, "drift")


def test_a_distance_leaves_out_what_never_varied():
    features = np.asarray([[1.0, 5.0], [3.0, 5.0]])
    assert distance_of(features, np.asarray([2.0, 5.0]), np.asarray([1.0, 0.0])).tolist() == [1, 1]
    assert distance_of(features, np.zeros(2), np.zeros(2)).tolist() == [0, 0]


def test_a_reference_comes_back_as_it_was(tmp_path):
    rng = np.random.default_rng(5)
    assert DriftBaseline.read(tmp_path) is None
    facts, features = bins(rng, 300)
    reference = DriftBaseline.of(facts, features, COUNTS)
    reference.write(tmp_path)
    again = DriftBaseline.read(tmp_path)
    assert again.histograms == dict(reference.histograms)
    assert (again.distance(features, 300) == reference.distance(features, 300)).all()
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"format": "x"}', '{"format": "bincount-reference-1", "facts": {"a": 1}}']
)
def test_a_damaged_reference_is_refused(tmp_path, damage):
    (tmp_path / FILE).write_text(damage)
    with pytest.raises(DataError, match=r"^reference.json: must be a bincount-reference-1"):
        DriftBaseline.read(tmp_path)


def test_a_fact_in_words():
    fact = {"psi": 1.2, "limit": 0.25, "then": 112.0, "now": 71.0}
    assert sentence_of("brightness", fact) == "brightness is 71 on average, was 112 (PSI 1.20, limit 0.25)"
