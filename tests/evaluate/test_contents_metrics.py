"""Figures of the judge of contents, on lists whose truth is known."""

import json
import re

import numpy as np
import pytest

from bincount.counts import Counts
from bincount.dataset.contents import Product, sums_of
from bincount.dataset.manifest import Record
from bincount.evaluate.contents_metrics import ERRORS, JUDGES, _planted, contents_summary, evaluate_contents
from bincount.evaluate.evaluate import evaluate
from bincount.mismatch.contents import ContentsJudge
from tests.evaluate.trained import open_trained_run, write_manifest
from tests.stores import make_settings
from tests.tiny import write_contents_judge

FIVE, PRIOR = Counts.parse("1-5"), np.full(5, 0.2)


def cube(quantity, side):
    return Product(quantity, (side, side, side), 0.5)


def bins(n, seed):
    """Two photos of each bin, one item more on the second; photos tell the volume well and the count a little."""
    rng = np.random.default_rng(seed)
    contents, records = [], []
    for row in range(n):
        side, first = float(rng.uniform(2, 9)), int(rng.integers(1, 4))
        for step in (0, 1):
            contents.append((cube(first + step, side), cube(1, float(rng.uniform(2, 4)))))
            count = first + step + 1
            records.append(Record(f"{40 * row + step:05d}", f"{40 * row:05d}", count, "test", 2, 60, 40, 1, "", 0, 0))
    truth = np.array([record.recorded - 1 for record in records])
    photo = np.full((2 * n, 5), 0.15)
    photo[np.arange(2 * n), np.clip(truth + rng.integers(-1, 2, 2 * n), 0, 4)] = 0.4
    return contents, truth, photo, np.array([sums_of(each) for each in contents]), records


@pytest.fixture(scope="module")
def judge():
    contents, truth, *_ = bins(300, seed=0)
    ones = [(cube(1, 3.0),)] * 30
    learned = ContentsJudge.fit([*contents, *ones], np.r_[truth, np.zeros(30, int)], FIVE)
    held, truth, photo, sums, records = bins(100, seed=1)
    sums = sums + np.random.default_rng(2).normal(0, 0.2, sums.shape)
    groups = [record.group for record in records]
    return learned.calibrated(held, truth, groups, photo, sums, PRIOR, np.arange(200).reshape(-1, 2))


def figures_of(judge, noise):
    contents, _, photo, sums, records = bins(100, seed=3)
    sums = sums + np.random.default_rng(4).normal(0, noise, sums.shape)
    return evaluate_contents(judge, contents, sums, photo, records, FIVE, PRIOR)


def test_a_photo_that_tells_volume_makes_the_total_sharper(judge):
    figures = figures_of(judge, noise=0.05)
    assert figures["bins"] == 200
    assert figures["exact"] > figures["list_only"]["exact"]
    assert figures["nll"] < min(figures["list_only"]["nll"], figures["photo"]["nll"])
    for name, (low, high) in figures["intervals"].items():
        assert low <= figures[name] <= high, name
    assert set(figures["variance"]) == set(ERRORS)
    for kind, row in figures["variance"].items():
        assert {name: row[name]["auroc"] for name in JUDGES}.keys() == set(JUDGES)
        assert row["contents"]["auroc"] > row["blind"]["auroc"], kind
    summary = contents_summary(json.loads(json.dumps(figures)))
    assert summary["contents_nll"] == figures["nll"]
    assert summary["contents_auroc_swapped_blind"] == figures["variance"]["swapped"]["blind"]["auroc"]


def test_a_photo_that_tells_nothing_of_volume_tells_less(judge):
    assert figures_of(judge, noise=5)["nll"] > figures_of(judge, noise=0.05)["nll"]


def test_bins_without_sizes_are_left_out(judge):
    contents, _, photo, sums, records = bins(3, seed=5)
    contents[0] = (Product(2, None, None),)
    assert evaluate_contents(judge, contents, sums, photo, records, FIVE, PRIOR)["bins"] == 5
    nothing = [()] * len(records)
    assert evaluate_contents(judge, nothing, sums, photo, records, FIVE, PRIOR) is None


def test_planted_errors_are_those_that_their_names_say():
    contents, _, _, _, records = bins(2, seed=6)
    own = contents[0]
    right = sum(product.quantity for product in own)
    for kind, changes in (("quantity_one", {-1, 1}), ("quantity_two", {-2, 2})):
        totals = [variant.recorded + 1 - right for variant in _planted(kind, 0, contents, records, FIVE)]
        assert set(totals) <= changes
    assert [variant.contents for variant in _planted("swapped", 0, contents, records, FIVE)] == [list(contents[1])]
    assert all(len(variant.contents) == 1 for variant in _planted("missing", 0, contents, records, FIVE))
    assert all(len(variant.contents) == 3 for variant in _planted("added", 0, contents, records, FIVE))


def test_the_step_evaluate_returns_the_figures_and_the_card_shows_both_lifts(tmp_path):
    settings = make_settings(tmp_path)
    run_id = open_trained_run(settings, write_manifest(settings, side=5))
    write_contents_judge(settings.run(run_id) / "model")
    answer = evaluate(settings, run_id=run_id)
    figures, metrics = answer["contents"], answer["metrics"]
    assert (figures["bins"], figures["nll"]) == (metrics["contents_bins"], metrics["contents_nll"])
    assert evaluate(settings, run_id=run_id) == json.loads(json.dumps(answer))
    card = (settings.run(run_id) / "evaluation" / "card.md").read_text()
    row = figures["variance"]["quantity_one"]["contents"]
    shown = f"{row['auroc']:.3f} ({row['lift_5']:.1f} and {row['lift_10']:.1f})"
    assert f"| {ERRORS['quantity_one']} | {shown} |" in card
    assert re.search(r"wrong record, AUROC \(lift at 5 % and 10 %\)", card)
