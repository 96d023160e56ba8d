"""Evaluation of predictions: every record once, none that was learned from, all figures JSON-ready."""

import json

import numpy as np
import pytest

from bincount.config import GateLimits
from bincount.counts import Counts
from bincount.dataset.manifest import Record
from bincount.errors import DataError
from bincount.evaluate.count_metrics import evaluate_predictions, truth_of
from bincount.evaluate.gate_checks import gate_scores, quality_checks

COUNTS = Counts.parse("1-5")


def record(number, recorded=1, *, group=None, part="test", size=(300, 200), n_skus=1):
    name = f"{number:05d}"
    return Record(name, group or name, recorded, part, n_skus, *size, 1000, "", 0, 0)


def some(bins=200, *, counts=COUNTS, right=0.7, seed=0):
    """Records of every count in turn, and distributions that put `right` on the recorded one."""
    records = [record(number, counts.values[number % len(counts)]) for number in range(bins)]
    probabilities = np.full((bins, len(counts)), (1 - right) / (len(counts) - 1))
    rows = np.arange(bins)
    truth = truth_of(records, counts)
    hit = np.random.default_rng(seed).random(bins) < right
    probabilities[rows, np.where(hit, truth, (truth + 1) % len(counts))] = right
    return records, probabilities


def test_an_evaluation_is_complete_and_json():
    records, probabilities = some()
    evaluation = evaluate_predictions(probabilities, records, COUNTS)
    assert json.loads(json.dumps(evaluation)).keys() == evaluation.keys()
    assert evaluation["metrics"]["bins"] == 200
    assert evaluation["metrics"]["exact"] == pytest.approx(0.7, abs=0.08)
    low, high = evaluation["intervals"]["exact"]
    assert low < evaluation["metrics"]["exact"] < high
    assert evaluation["differences"]["nll"][1] < 0
    assert sum(map(sum, evaluation["confusion"])) == 200
    assert sum(row["bins"] for row in evaluation["reliability"]) == 200
    assert all(check.met for check in quality_checks(gate_scores(evaluation), GateLimits(ece=0.1)))


def test_slices_by_orientation_size_and_products():
    records = [record(1, 1, size=(300, 200)), record(2, 1, size=(200, 500), n_skus=2), record(3, 1, size=(700, 700))]
    probabilities = np.eye(5)[[0, 1, 0]]
    slices = evaluate_predictions(probabilities, records, COUNTS)["slices"]
    assert {(row["slice"], row["exact"]) for row in slices["orientation"]} == {
        ("landscape", 1),
        ("portrait", 0),
        ("square", 1),
    }
    assert [row["slice"] for row in slices["size"]] == ["up to 400 px", "401 to 600 px", "above 600 px"]
    assert [(row["slice"], row["bins"]) for row in slices["products"]] == [("1", 2), ("2", 1)]


def test_a_bin_is_scored_once_and_only_if_it_can_be_counted():
    with pytest.raises(DataError, match="exactly once, got one twice"):
        evaluate_predictions(np.eye(5)[[0, 0]], [record(1), record(1)], COUNTS)
    with pytest.raises(DataError, match="bin 00001: its count must be one of 1, 2, 3, 4, 5, got 0"):
        evaluate_predictions(np.eye(5)[[0]], [record(1, 0)], COUNTS)
