"""What a ranking of records is worth, against sklearn and by hand."""

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from bincount.counts import Counts
from bincount.dataset.manifest import Record
from bincount.evaluate.detection_metrics import SHARES, detection_metrics

FIVE, OPEN = Counts.parse("1-5"), Counts.parse("0-5+")


def record(number, recorded, group=None):
    name = f"{number:05d}"
    return Record(name, group or name, recorded, "test", 1, 60, 40, 1, "", 0, 0)


def seen(records, counts, sure, rng):
    """A model that knows the count with this probability, and else anything."""
    p = np.full((len(records), len(counts)), (1 - sure) / (len(counts) - 1))
    for row, each in enumerate(records):
        p[row, counts.index_of(each.recorded) if rng.random() < sure else rng.integers(len(counts))] = sure
    return p / p.sum(1, keepdims=True)


def bins(n=300, counts=FIVE, seed=0):
    rng = np.random.default_rng(seed)
    return [record(i, int(rng.choice(counts.values)), f"{i - i % 2:05d}") for i in range(n)]


def test_a_model_that_knows_finds_them_and_one_that_does_not_does_no_better_than_chance():
    records, rng = bins(), np.random.default_rng(1)
    even = np.full(5, 0.2)
    knows = detection_metrics(seen(records, FIVE, 0.97, rng), records, FIVE, even)
    guesses = detection_metrics(np.tile(even, (300, 1)), records, FIVE, even)
    assert set(knows["kinds"]) == {"neighbour", "one", "two", "mixed", "any"}
    for kind, found in knows["kinds"].items():
        assert found["model"]["auroc"] > 0.95, kind
        assert found["model"]["at"]["0.02"]["lift"] > 20
        assert found["model"]["expected_cost"] < found["random"]["expected_cost"]
        assert found["intervals"]["difference"][0] > 0.2
        assert guesses["kinds"][kind]["model"]["auroc"] == pytest.approx(0.5, abs=0.02)
        assert found["random"]["auroc"] == pytest.approx(0.5)
        assert found["random"]["at"]["0.05"]["lift"] == pytest.approx(1)
        assert found["random"]["auprc"] == pytest.approx(0.02, rel=1e-6)
        low, high = found["intervals"]["auroc_blind"]
        assert low <= found["image_blind"]["auroc"] <= high
    assert json.loads(json.dumps(knows))["kinds"].keys() == knows["kinds"].keys()


def test_the_figures_are_sklearn_s():
    """Two copies of every bin, one right and one wrong, weighted."""
    records, rng = [record(i, 1 + i % 2) for i in range(40)], np.random.default_rng(2)
    p = rng.dirichlet((1, 1), 40)
    two = Counts.parse("1-2")
    prior = np.array([0.5, 0.5])
    found = detection_metrics(p, records, two, prior, error_rate=0.1)["kinds"]["any"]
    from bincount.mismatch.posterior import record_posterior

    right = np.array([each.recorded for each in records])
    recorded = np.concatenate([right, 3 - right])
    wrong = np.repeat([0, 1], 40)
    weight = np.repeat([0.9, 0.1], 40)
    scores = record_posterior(np.concatenate([p, p]), recorded, two, prior, error_rate=0.1).probability
    assert found["model"]["auroc"] == pytest.approx(roc_auc_score(wrong, scores, sample_weight=weight))
    assert found["model"]["auprc"] == pytest.approx(average_precision_score(wrong, scores, sample_weight=weight))
    order = np.argsort(-scores)
    counted = np.interp(0.2 * 40, weight[order].cumsum(), (weight * wrong)[order].cumsum())
    assert found["model"]["at"]["0.2"]["recall"] == pytest.approx(counted / 4)
    assert found["model"]["at"]["0.2"]["precision"] == pytest.approx(counted / 8)
    assert found["model"]["at"]["0.2"]["false_alarms"] == pytest.approx(200 * (1 - counted / 8))


def test_a_cost_by_hand():
    """Four bins, a model that is certain and right: counting the wrong tenth costs 0.1, missing none."""
    records = [record(i, 1 + i % 2) for i in range(4)]
    certain = np.eye(2)[[each.recorded - 1 for each in records]]
    found = detection_metrics(certain, records, Counts.parse("1-2"), np.array([0.5, 0.5]), error_rate=0.1)["kinds"][
        "any"
    ]
    assert found["model"]["expected_cost"] == pytest.approx(0.1)
    assert found["random"]["expected_cost"] == pytest.approx(1)  # 20 x 0.1 is more than 1: count all
    assert found["model"]["auroc"] == 1


def test_mixed_errors_by_hand():
    """Bins of 3: recorded as 2 or 4 in 7 of 10 errors, as 1 or 5 in 3."""
    records = [record(i, 3) for i in range(10)]
    one_or_five = np.tile([0.5, 0.0, 0.0, 0.0, 0.5], (10, 1))
    found = detection_metrics(one_or_five, records, FIVE, np.full(5, 0.2), error_rate=0.1)["kinds"]["mixed"]
    # Records of 2 and 4 are as impossible as the right ones of 3, those of 1 and 5 are believed.
    assert found["model"]["auroc"] == pytest.approx(0.7 / 2)
    assert found["image_blind"]["auroc"] == pytest.approx(1)


def test_a_record_alone_tells_something():
    """Few record 3 and many could by mistake: told the rates, the blind ranking is above chance."""
    records = [record(i, count) for i, count in enumerate([1] * 50 + [2] * 100 + [3] * 20)]
    found = detection_metrics(np.full((170, 5), 0.2), records, FIVE, np.full(5, 0.2))["kinds"]["one"]
    assert found["image_blind"]["auroc"] > 0.6


def test_kinds_that_cannot_be_made_are_left_out_and_open_classes_hide_theirs():
    records = [record(i, 17) for i in range(30)]
    found = detection_metrics(np.full((30, 7), 1 / 7), records, OPEN, np.full(7, 1 / 7))["kinds"]
    assert "neighbour" not in found
    assert found["one"]["model"]["auroc"] == pytest.approx(0.5)
    assert len(found["any"]["model"]["at"]) == len(SHARES)
