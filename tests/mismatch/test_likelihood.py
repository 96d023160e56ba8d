"""What counted bins say, whichever were counted: cases by hand, and errors planted in simulated bins."""

import numpy as np
import pytest

from bincount.counts import Counts
from bincount.mismatch.likelihood import CountedBins, tempered
from bincount.mismatch.posterior import errors_of, record_posterior
from bincount.outcomes.error_rate import rate_of, share_of
from bincount.outcomes.recalibration import recalibrate
from tests.simulated import chosen, simulate

FIVE, TWO, OPEN = Counts.parse("1-5"), Counts.parse("1-2"), Counts.parse("0-5+")
EVEN = np.full(2, 0.5)


def of_two(shown, recorded, counted):
    """Bins of a model for 1 and 2 items that says `shown` of 1 item."""
    shown = np.asarray(shown, dtype=float)
    return CountedBins(np.column_stack([shown, 1 - shown]), np.asarray(recorded), np.asarray(counted), TWO, EVEN)


def test_without_photos_the_interval_is_the_one_of_jeffreys():
    """(k + 1/2) / (n + 1), and the quantiles of Beta(k + 1/2, n - k + 1/2)."""
    quantiles = [
        (0, 50, 9.772e-06, 0.04876),
        (2, 20, 0.02137, 0.2839),
        (10, 10, 0.7828, 1.0),
        (300, 4000, 0.06714, 0.08347),
    ]
    for wrong, bins, low, high in quantiles:
        share = share_of(wrong, bins)
        assert share.estimate == pytest.approx((wrong + 0.5) / (bins + 1), rel=1e-3)
        assert share.low == pytest.approx(low, rel=0.02, abs=1e-5)
        assert share.high == pytest.approx(high, rel=0.01)


def test_evidence_by_hand():
    """Recorded 1, shown 1 with 0.2: the other count is 0.8 / 0.2 = 4 times likelier; square roots of them: twice."""
    bins = of_two([0.2, 0.2], [1, 2], [1, 2])
    assert np.exp(bins.log_evidence(1)) == pytest.approx([4, 1 / 4])
    assert np.exp(bins.log_evidence(2)) == pytest.approx([2, 1 / 2])


def test_the_evidence_is_that_of_the_worklist():
    bins = simulate(3, bins=50, rate=0.2)
    variance = record_posterior(bins.probabilities, bins.recorded, FIVE, bins.prior)
    assert np.exp(bins.log_evidence(1)) == pytest.approx(variance.evidence)


def test_a_likelihood_by_hand():
    """Odds 1 to 9 and evidence 4 make 4 to 9: wrong with 4/13, right with 9/13; two counts leave no doubt which."""
    bins = of_two([0.2, 0.2], [1, 1], [2, 1])
    assert np.exp(bins.log_likelihood(1, np.log(1 / 9))) == pytest.approx([4 / 13, 9 / 13])


def test_which_count_was_found_says_more_than_that_it_was_another():
    """Recorded 3 of 1-5 and found 1, by the pattern of errors; the model sees nothing, so it is the pattern's."""
    even = np.full((1, 5), 0.2)
    pattern = errors_of(3, FIVE)[:2].sum(axis=0)
    bins = CountedBins(even, np.array([3]), np.array([1]), FIVE, even[0])
    assert np.exp(bins.which(1)) == pytest.approx(pattern[0])
    assert bins.log_evidence(1) == pytest.approx(0)


def test_what_no_class_holds_was_wrong_and_no_more():
    even = np.full((2, 5), 0.2)
    bins = CountedBins(even, np.array([3, 3]), np.array([0, 17]), FIVE, even[0])
    assert bins.wrong.all()
    assert bins.which(1).tolist() == [0, 0]


def test_within_an_open_class_a_record_may_be_wrong():
    many = np.zeros((1, 7))
    many[0, 6] = 1
    bins = CountedBins(many, np.array([50]), np.array([40]), OPEN, np.full(7, 1 / 7))
    assert bins.wrong.all()
    assert np.isfinite(bins.log_likelihood(1, -3.0)).all()


def test_no_photo_is_believed_beyond_a_thousand_to_one():
    bins = of_two([0.0, 1.0], [1, 1], [1, 2])
    assert np.exp(bins.log_evidence(1)) == pytest.approx([1000, 1 / 1000])
    rate, _ = rate_of([bins])
    assert 0 < rate.low < rate.estimate < rate.high < 1


@pytest.mark.parametrize("how", ["worst", "random"])
def test_the_rate_planted_is_found_whichever_twentieth_was_counted(how):
    """2 % planted; of the worst twentieth one in eight is wrong."""
    found = []
    for seed in range(3):
        counted = chosen(simulate(seed, bins=20_000, rate=0.02), how, 1000)
        rate, (temperature,) = rate_of([counted])
        found.append(rate.estimate)
        assert rate.low < 0.02 < rate.high
        assert 0.7 < temperature < 1.4
        if how == "worst":
            assert counted.wrong.mean() > 0.1
    assert np.mean(found) == pytest.approx(0.02, rel=0.2)


def test_a_model_that_is_too_sure_hardly_bends_the_rate():
    """Taken at its word, it makes the rate of the worst bins about half of what it is. 3 % planted, ten times."""
    rates, at_its_word = [], []
    for seed in range(10):
        counted = chosen(simulate(seed, bins=10_000, rate=0.03, sureness=1.4), "worst", 500)
        rates.append(rate_of([counted])[0])
        evidence = np.exp(counted.log_evidence(1))
        tried = np.exp(np.linspace(-8, -2, 601))
        expected = [(rate * evidence / (rate * evidence + 1 - rate)).sum() for rate in tried]
        at_its_word.append(tried[np.searchsorted(expected, counted.wrong.sum())])
    assert np.mean(at_its_word) < 0.018
    assert np.mean([rate.estimate for rate in rates]) == pytest.approx(0.03, rel=0.2)
    assert sum(rate.low < 0.03 < rate.high for rate in rates) >= 8


def test_outcomes_of_several_models_go_together():
    one, other = (chosen(simulate(seed, bins=5000, rate=0.05), "random", 250) for seed in (1, 2))
    rates = [rate_of(versions)[0] for versions in ([one], [one, other])]
    assert rates[1].high - rates[1].low < rates[0].high - rates[0].low
    assert len(rate_of([one, other])[1]) == 2


def test_nothing_found_still_gives_a_rate():
    rate, _ = rate_of([of_two([0.5] * 40, [1] * 40, [1] * 40)])
    assert rate.estimate == pytest.approx(0.5 / 41, rel=0.01)
    assert rate.low < 0.0001


def test_photos_that_leave_no_doubt_say_nothing_of_the_rate():
    """Wrong or right is known from the photo, whatever the rate: the interval says so, and the rate is not used."""
    bins = of_two([1.0] * 90 + [0.0] * 10, [1] * 100, [1] * 90 + [2] * 10)
    rate, _ = rate_of([bins])
    assert rate.high - rate.low > 0.5
    assert not rate.is_known_by(100)
    assert share_of(10, 100).is_known_by(100)
    assert not share_of(1, 29).is_known_by(29)


@pytest.mark.parametrize(("sureness", "how"), [(1.7, "worst"), (1.7, "random"), (0.6, "worst")])
def test_a_temperature_planted_is_found_and_helps(sureness, how):
    counted = chosen(simulate(7, bins=20_000, rate=0.05, sureness=sureness), how, 1500)
    found = recalibrate(counted, [str(row) for row in range(len(counted))])
    assert found.temperature == pytest.approx(sureness, rel=0.2)
    assert found.helps
    assert found.low < found.gain < found.high


@pytest.mark.parametrize("how", ["worst", "random"])
def test_a_model_that_is_calibrated_is_left_alone(how):
    """Of the worst bins the plain likelihood of the count given the photo would ask for the largest temperature."""
    counted = chosen(simulate(8, bins=20_000, rate=0.03), how, 500)
    found = recalibrate(counted, [str(row) for row in range(len(counted))])
    assert not found.helps
    assert found.temperature == pytest.approx(1, abs=0.35)
    if how == "worst":
        classes = counted.counted - 1
        plain = {
            each: np.log(tempered(counted.probabilities, each)[np.arange(500), classes]).sum() for each in (1, 2, 4)
        }
        assert max(plain, key=plain.get) == 4


def test_tempering_keeps_the_order_and_one_changes_nothing():
    shown = np.array([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]])
    assert tempered(shown, 1.0) is shown
    for temperature in (0.5, 3):
        made = tempered(shown, temperature)
        assert made.sum(axis=1) == pytest.approx(1)
        assert (made.argsort(axis=1)[0] == shown.argsort(axis=1)[0]).all()
