"""What is said of a model: every record once, nothing it has seen, everything in figures."""

import json

import numpy as np
import pytest

from bincount.config import GateLimits
from bincount.counts import Counts
from bincount.dataset.manifest import Record
from bincount.errors import DataError
from bincount.evaluate.evaluation import evaluate_predictions, scores_of, truth_of, without_leakage
from bincount.registry.comparison import compare, unseen_by_both
from bincount.registry.gate_rules import decide

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
    said = evaluate_predictions(probabilities, records, COUNTS)
    assert json.loads(json.dumps(said)).keys() == said.keys()
    assert said["metrics"]["bins"] == 200
    assert said["metrics"]["exact"] == pytest.approx(0.7, abs=0.08)
    low, high = said["intervals"]["exact"]
    assert low < said["metrics"]["exact"] < high
    assert said["differences"]["nll"][1] < 0
    assert sum(map(sum, said["confusion"])) == 200
    assert sum(row["bins"] for row in said["reliability"]) == 200
    assert decide(scores_of(said), limits=GateLimits(ece=0.1)).promoted


def test_slices_say_which_photos_are_counted_worse():
    records = [record(1, 1, size=(300, 200)), record(2, 1, size=(200, 500), n_skus=2), record(3, 1, size=(700, 700))]
    probabilities = np.eye(5)[[0, 1, 0]]
    slices = evaluate_predictions(probabilities, records, COUNTS)["slices"]
    assert {(row["slice"], row["exact"]) for row in slices["orientation"]} == {
        ("landscape", 1),
        ("portrait", 0),
        ("square", 1),
    }
    assert [row["slice"] for row in slices["size"]] == ["401 to 600 px", "above 600 px", "up to 400 px"]
    assert [(row["slice"], row["bins"]) for row in slices["products"]] == [("1", 2), ("2", 1)]


def test_a_bin_is_scored_once_and_only_if_it_can_be_counted():
    with pytest.raises(DataError, match="exactly once, got one twice"):
        evaluate_predictions(np.eye(5)[[0, 0]], [record(1), record(1)], COUNTS)
    with pytest.raises(DataError, match="bin 00001: its count must be one of 1, 2, 3, 4, 5, got 0"):
        evaluate_predictions(np.eye(5)[[0]], [record(1, 0)], COUNTS)


def test_groups_that_were_learned_from_are_unseen_no_more():
    records = [record(1, group="00001"), record(2, group="00001"), record(5)]
    assert without_leakage(records, {"00001"}) == records[2:]


def test_across_manifests_nearby_ids_may_be_one_bin():
    records = [record(20), record(21, group="00020"), record(23), record(30)]
    assert [each.id for each in unseen_by_both(records, {"00018"})] == ["00023", "00030"]
    assert unseen_by_both(records, {"18", "x-1"}) == records  # another family of ids, other bins
    assert unseen_by_both(records, set()) == records


def test_the_same_model_is_no_worse_than_itself():
    records, probabilities = some()
    comparison = compare("1", records, (probabilities, COUNTS), (probabilities, COUNTS))
    assert comparison.rps_difference == (0, 0)
    assert all(ours == theirs for ours, theirs in comparison.recalls.values())
    assert comparison.bins == 200


def test_a_worse_model_is_found_out():
    records, good = some(right=0.9)
    _, bad = some(right=0.4)
    worse = compare("1", records, (bad, COUNTS), (good, COUNTS))
    assert worse.rps_difference[0] > 0.1
    assert compare("1", records, (good, COUNTS), (bad, COUNTS)).rps_difference[1] < -0.1


def test_models_of_other_counts_are_compared_on_all_counts_either_knows():
    wide = Counts.parse("0-5+")
    records, narrow = some()
    spread = np.hstack([np.zeros((200, 1)), narrow, np.zeros((200, 1))])
    comparison = compare("1", records, (narrow, COUNTS), (spread, wide))
    assert comparison.rps_difference == (0, 0)
    many = [record(number, 9) for number in range(30)]
    comparison = compare("1", many, (np.eye(7)[[6] * 30], wide), (np.eye(7)[[5] * 30], wide))
    assert comparison.recalls == {"6": (1, 0)}  # nine items are in the open class


def test_without_common_bins_nothing_is_compared():
    comparison = compare("3", [], (np.zeros((0, 5)), COUNTS), (np.zeros((0, 5)), COUNTS))
    assert comparison.bins == 0
