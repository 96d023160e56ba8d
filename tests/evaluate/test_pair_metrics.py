"""Figures of two photos of one bin, on heads whose worth is known."""

import json

import numpy as np

from bincount.counts import Counts
from bincount.dataset.manifest import Record
from bincount.dataset.pairs import pairs_of
from bincount.evaluate.pair_metrics import ERRORS, _planted, evaluate_pairs, pairs_summary
from bincount.mismatch.change import ChangeHead

FIVE = Counts.parse("1-5")


def learned(noise, still=0):
    """Records of 300 bins with two photos each, and a head learned from 300 others; of both, nothing moved in some."""
    rng = np.random.default_rng(0)
    before = rng.integers(0, 5, 600)
    change = rng.choice([-2, -1, 1, 2], 600, p=[0.2, 0.4, 0.3, 0.1])
    after = np.where((before + change < 0) | (before + change > 4), before - change, before + change)
    after[np.arange(600) % 300 < still] = before[np.arange(600) % 300 < still]
    earlier = rng.normal(0, 1, (600, 6))
    later = earlier + np.outer(after - before, np.ones(6)) + rng.normal(0, noise, (600, 6))
    blocks = [str(row // 10) for row in range(300)]
    head = ChangeHead.fit(earlier[:300], later[:300], before[:300], after[:300], blocks, FIVE)
    records = [
        Record(f"{20 * row + end:05d}", f"{20 * row:05d}", 1 + int(each[300 + row]), "test", 1, 60, 40, 1, "", 0, 0)
        for row in range(300)
        for end, each in enumerate((before, after))
    ]
    photo, prior = np.full((600, 5), 0.2), np.full(5, 0.2)
    return evaluate_pairs(head, pairs_of(records), earlier[300:], later[300:], photo, records, FIVE, prior)


def test_a_head_that_sees_beats_the_judge_who_does_not():
    figures = learned(noise=0.3)
    assert figures["pairs"] == figures["learned_from"] == 300
    assert figures["direction_auroc"] > 0.99
    assert figures["exact"] > 0.9 > figures["blind"]["exact"]
    assert figures["nll"] < figures["blind"]["nll"] < figures["photo"]["nll"] + 0.2
    for kind in ERRORS:
        assert figures["variance"][kind]["pair"] > figures["variance"][kind]["blind"], kind
        assert figures["variance"][kind]["pair"] > 0.9, kind
        lifts = figures["variance"][kind]["worklist"]
        assert lifts["with"]["lift_5"]["value"] > lifts["without"]["lift_5"]["value"], kind
    assert figures["coverage_90"] > 0.87
    for name, (low, high) in figures["intervals"].items():
        assert low <= figures[name] <= high, name
    summary = pairs_summary(json.loads(json.dumps(figures)))
    assert summary["pairs_exact_blind"] == figures["blind"]["exact"]
    assert summary["pairs_auroc_one_photo"] == figures["variance"]["one"]["photo"]
    assert figures["unchanged"] == {"knows": False, "pairs": 0}


def test_pairs_in_which_nothing_moved_are_learned_from_and_have_a_figure():
    figures = learned(noise=0.3, still=60)
    assert figures["unchanged"]["knows"]
    assert figures["unchanged"]["pairs"] == 60
    assert figures["unchanged"]["called_changed"] < 0.1
    assert figures["exact"] > 0.9


def test_each_auroc_of_wrong_records_is_within_its_interval():
    for kind, row in learned(noise=1)["variance"].items():
        for name, ends in row["intervals"].items():
            low, high = ends["auroc"]
            assert low <= row["pair"] <= high, kind
            low, high = ends["auroc_blind"]
            assert low <= row[name.removeprefix("against_")] <= high, kind
            low, high = ends["difference"]
            assert low <= row["pair"] - row[name.removeprefix("against_")] <= high, kind


def test_planted_errors_are_those_that_their_names_say():
    assert _planted("swapped", 2, 3, 5) == [1]
    assert _planted("swapped", 1, 4, 5) == []  # it would be -2
    assert _planted("one", 2, 4, 5) == [3]
    assert _planted("missed", 0, 2, 5) == [1]
    assert _planted("missed", 0, 1, 5) == []


def test_a_head_that_sees_nothing_is_no_better_than_the_judge_without_photos():
    figures = learned(noise=1000)
    assert abs(figures["direction_auroc"] - 0.5) < 0.3
    assert figures["exact"] < figures["blind"]["exact"] + 0.05
