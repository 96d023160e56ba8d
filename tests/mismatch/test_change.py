"""The change head on differences whose truth is known."""

import numpy as np
import pytest

from bincount.counts import Counts
from bincount.errors import DataError
from bincount.mismatch.change import FEWEST_PAIRS, FILE, ChangeHead

FIVE = Counts.parse("1-5")


def pairs(n, seed=0, noise=0.3):
    """Each feature moves with the change, and has noise of its own."""
    rng = np.random.default_rng(seed)
    before = rng.integers(0, 5, n)
    after = np.clip(before + rng.choice([-2, -1, 1, 2], n, p=[0.1, 0.5, 0.3, 0.1]), 0, 4)
    difference = np.outer(after - before, np.linspace(0.5, 1.5, 12)) + rng.normal(0, noise, (n, 12))
    return difference, before, after, [str(row // 10) for row in range(n)]


@pytest.fixture(scope="module")
def head():
    return ChangeHead.fit(*pairs(400), FIVE)


def test_the_count_after_is_a_distribution_near_the_truth(head):
    difference, before, after, _ = pairs(200, seed=1)
    distribution = head.counts_after(difference, before)
    assert distribution.shape == (200, 5)
    assert np.allclose(distribution.sum(axis=1), 1)
    assert (distribution.argmax(axis=1) == after).mean() > 0.9


def test_swapped_photos_give_the_opposite_score(head):
    difference, *_ = pairs(50, seed=2)
    assert np.array_equal(head.score(-difference), -head.score(difference))


def test_features_that_tell_nothing_give_a_distribution_no_surer_than_the_truth():
    rng = np.random.default_rng(3)
    _, before, after, blocks = pairs(600)
    head = ChangeHead.fit(rng.normal(0, 1, (600, 30)), before, after, blocks, FIVE)
    _, before, after, _ = pairs(600, seed=4)
    noise = head.counts_after(rng.normal(0, 1, (600, 30)), before)
    assert noise.max(axis=1).mean() < (noise.argmax(axis=1) == after).mean() + 0.1


def test_too_few_pairs_give_no_head():
    assert ChangeHead.fit(*pairs(FEWEST_PAIRS - 1), FIVE) is None
    difference, before, after, _ = pairs(200)
    assert ChangeHead.fit(difference, before, after, ["one block"] * 200, FIVE) is None
    assert ChangeHead.fit(np.empty(0), np.empty(0), np.empty(0), [], FIVE) is None


def test_two_kinds_of_change_suffice():
    difference, before, after, blocks = pairs(400)
    change = np.sign(after - before)
    some = (change != 0) & (before + change >= 0) & (before + change < 5)
    head = ChangeHead.fit(
        difference[some],
        before[some],
        (before + change)[some],
        [b for b, s in zip(blocks, some, strict=True) if s],
        FIVE,
    )
    distribution = head.counts_after(difference[some], before[some])
    assert (distribution.argmax(axis=1) == (before + change)[some]).mean() > 0.9


def test_a_head_is_read_as_it_was_written(head, tmp_path):
    assert ChangeHead.read(tmp_path) is None
    head.write(tmp_path)
    difference, before, *_ = pairs(50, seed=5)
    same = ChangeHead.read(tmp_path)
    assert np.array_equal(same.counts_after(difference, before), head.counts_after(difference, before))
    (tmp_path / FILE).write_text('{"weights": [1]}')
    with pytest.raises(DataError, match=r"change.json: must be the change head"):
        ChangeHead.read(tmp_path)
