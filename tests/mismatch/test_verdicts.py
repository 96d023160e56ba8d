"""Verdicts, and the answer that holds them."""

import json

import numpy as np
import pytest

from bincount.counts import Counts
from bincount.errors import DataError
from bincount.mismatch.answer import answer_of, answers_of, same_answer
from bincount.mismatch.calibration import Calibration
from bincount.mismatch.verdicts import compare_records, count_of

FIVE, OPEN = Counts.parse("1-5"), Counts.parse("0-5+")


def calibrated(counts=FIVE, distance=0.4):
    """As if 20 groups of each count had lain at one distance."""
    return Calibration(counts, np.full(len(counts), 1 / len(counts)), [[[distance]] * 20] * len(counts))


SURE_OF_2 = [0.05, 0.9, 0.03, 0.01, 0.01]
EVEN = [0.2] * 5


@pytest.mark.parametrize(
    ("p", "recorded", "verdict", "direction", "low", "high"),
    [
        (SURE_OF_2, 2, "match", "fewer", 2, 2),
        (SURE_OF_2, 4, "mismatch", "fewer", 2, 2),
        (SURE_OF_2, 1, "mismatch", "more", 2, 2),
        (EVEN, 3, "unsure", "fewer", 1, 5),
        (EVEN, 1, "unsure", "more", 1, 5),
        (SURE_OF_2, 0, "not_countable", "", 2, 2),
        (SURE_OF_2, 6, "not_countable", "", 2, 2),
        ([0.0, 0.45, 0.45, 0.05, 0.05], 2, "unsure", "more", 2, 3),  # inside, and the photo speaks for neither
    ],
)
def test_verdicts(p, recorded, verdict, direction, low, high):
    judged = compare_records(np.array([p]), np.array([recorded]), calibrated())
    assert (judged.verdict, judged.direction) == ([verdict], [direction])
    assert (judged.low[0], judged.high[0]) == (low, high)
    assert np.isnan(judged.probability[0]) == (verdict == "not_countable")


def test_a_temperature_weighs_the_record_and_leaves_the_bounds():
    """Sure of 2, recorded 4, then half as sure: the record is less probably wrong, and as far outside."""
    sure, less = (
        compare_records(np.array([SURE_OF_2]), np.array([4]), calibrated(), temperature=each) for each in (1.0, 2.0)
    )
    assert less.probability[0] < sure.probability[0]
    assert (less.low, less.high, less.verdict) == (sure.low, sure.high, sure.verdict) == ([2], [2], ["mismatch"])


def test_with_an_open_class_nothing_is_outside():
    empty = [0.97, 0.005, 0.005, 0.005, 0.005, 0.005, 0.005]
    for recorded in (1, 6, 60):
        judged = compare_records(np.array([empty]), np.array([recorded]), calibrated(OPEN))
        assert judged.verdict == ["mismatch"]
        assert judged.direction == ["fewer"]
        assert judged.probability[0] > 0.07


def test_an_answer_without_a_record_has_bounds_and_one_with_it_a_verdict():
    p = np.array([SURE_OF_2, SURE_OF_2, EVEN, EVEN])
    plain = answers_of(p, FIVE, calibrated())
    assert plain[0] == {**answer_of(p[0], FIVE), "low": 2, "high": 2}
    answers = answers_of(p, FIVE, calibrated(), [4, None, 9, 3])
    assert list(answers[0]) == [
        *("count", "confidence", "probabilities", "low", "high"),
        *("mismatch_probability", "direction", "verdict"),
    ]
    assert (answers[0]["verdict"], answers[0]["direction"]) == ("mismatch", "fewer")
    assert 0.1 < answers[0]["mismatch_probability"] < 1
    assert answers[1] == plain[1]
    assert (answers[2]["verdict"], answers[2]["mismatch_probability"], answers[2]["direction"]) == (
        "not_countable",
        None,
        None,
    )
    assert answers[3]["mismatch_probability"] == pytest.approx(0.02)
    assert json.loads(json.dumps(answers)) == answers
    assert same_answer(answers[0], answer_of(p[0], FIVE))


def test_a_model_without_a_calibration_answers_as_before():
    p = np.array([SURE_OF_2])
    assert answers_of(p, FIVE) == answers_of(p, FIVE, None, [4]) == [answer_of(p[0], FIVE)]


@pytest.mark.parametrize(
    ("value", "count"),
    [(0, 0), (7, 7), (3.0, 3), (np.int64(4), 4), (np.float32(4), 4), (None, None), (np.float64("nan"), None)],
)
def test_whole_numbers_are_records_however_they_are_stored(value, count):
    assert count_of(value, "recorded") == count


@pytest.mark.parametrize("value", [2.5, -1, True, "3", [3], b"3", float("inf"), 1e9, 10**40, {}])
def test_anything_else_is_refused(value):
    with pytest.raises(DataError, match="recorded must be a whole number"):
        count_of(value, "recorded")
