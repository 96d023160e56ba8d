"""The change head on differences whose truth is known."""

import numpy as np
import pytest

from bincount.counts import Counts
from bincount.errors import DataError
from bincount.mismatch.change import FEWEST_PAIRS, FILE, OTHER_BIN, SAME_PHOTO, ChangeHead

FIVE = Counts.parse("1-5")
PRIOR = np.full(5, 0.2)


def pairs(n, seed=0, noise=0.3):
    """Features of both photos; each moves with the change, beside what the bin looks like and noise."""
    rng = np.random.default_rng(seed)
    before = rng.integers(0, 5, n)
    after = np.clip(before + rng.choice([-2, -1, 1, 2], n, p=[0.1, 0.5, 0.3, 0.1]), 0, 4)
    earlier = rng.normal(0, 3, (n, 12))
    later = earlier + np.outer(after - before, np.linspace(0.5, 1.5, 12)) + rng.normal(0, noise, (n, 12))
    return earlier, later, before, after, [str(row // 10) for row in range(n)]


@pytest.fixture(scope="module")
def head():
    return ChangeHead.fit(*pairs(400), FIVE)


def test_the_count_after_is_a_distribution_near_the_truth(head):
    earlier, later, before, after, _ = pairs(200, seed=1)
    distribution = head.counts_after(later - earlier, before)
    assert distribution.shape == (200, 5)
    assert np.allclose(distribution.sum(axis=1), 1)
    assert (distribution.argmax(axis=1) == after).mean() > 0.9


def test_swapped_photos_give_the_opposite_score(head):
    earlier, later, *_ = pairs(50, seed=2)
    difference = later - earlier
    assert np.array_equal(head.score(-difference), -head.score(difference))


def test_features_beyond_the_width_tell_nothing():
    earlier, later, before, after, blocks = pairs(400)
    head = ChangeHead.fit(earlier, later, before, after, blocks, FIVE, width=5)
    narrow = ChangeHead.fit(earlier[:, :5], later[:, :5], before, after, blocks, FIVE)
    difference = later - earlier
    np.testing.assert_allclose(head.score(difference), narrow.score(difference[:, :5]))
    assert not np.allclose(head.score(difference), ChangeHead.fit(*pairs(400), FIVE).score(difference))


def test_features_that_tell_nothing_give_a_distribution_no_surer_than_the_truth():
    rng = np.random.default_rng(3)
    *_, before, after, blocks = pairs(600)
    head = ChangeHead.fit(rng.normal(0, 1, (600, 30)), rng.normal(0, 1, (600, 30)), before, after, blocks, FIVE)
    *_, before, after, _ = pairs(600, seed=4)
    noise = head.counts_after(rng.normal(0, 1, (600, 30)), before)
    assert noise.max(axis=1).mean() < (noise.argmax(axis=1) == after).mean() + 0.1


def test_it_counts_the_pairs_in_which_nothing_moved(head):
    *_, before, after, _ = pairs(400)
    assert head.unchanged == (before == after).sum() > 30
    assert head.knows_unchanged


@pytest.mark.parametrize("few", [0, 10])
def test_too_few_pairs_in_which_nothing_moved_are_not_learned_from(few):
    earlier, later, before, after, blocks = pairs(400)
    some = (before != after) | (np.cumsum(before == after) <= few)
    named = [block for block, each in zip(blocks, some, strict=True) if each]
    other = ChangeHead.fit(earlier[some], later[some], before[some], after[some], named, FIVE)
    assert (other.unchanged, other.knows_unchanged) == (few, False)
    assert other.pairs == (before != after).sum()
    distribution = other.counts_after(later[some] - earlier[some], before[some])
    assert distribution[np.arange(some.sum()), before[some]].max() < 0.001


def test_too_few_pairs_give_no_head():
    assert ChangeHead.fit(*pairs(FEWEST_PAIRS - 1), FIVE) is None
    assert ChangeHead.fit(*pairs(200)[:4], ["one block"] * 200, FIVE) is None
    assert ChangeHead.fit(*[np.empty((0, 0))] * 2, *[np.empty(0)] * 2, [], FIVE) is None


def test_two_kinds_of_change_suffice():
    earlier, later, before, after, blocks = pairs(400)
    difference = later - earlier
    change = np.sign(after - before)
    some = (change != 0) & (before + change >= 0) & (before + change < 5)
    head = ChangeHead.fit(
        earlier[some],
        later[some],
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
    earlier, later, before, *_ = pairs(50, seed=5)
    same, photo = ChangeHead.read(tmp_path), np.full((50, 5), 0.2)
    np.testing.assert_allclose(
        same.joint(earlier, later, before, photo, PRIOR), head.joint(earlier, later, before, photo, PRIOR), rtol=1e-9
    )
    assert same.problems_of(earlier, later) == head.problems_of(earlier, later)
    (tmp_path / FILE).write_text('{"weights": [1]}')
    with pytest.raises(DataError, match=r"change.json: must be what training wrote"):
        ChangeHead.read(tmp_path)


def test_photos_of_two_bins_are_told_from_those_of_one(head):
    earlier, later, *_ = pairs(300, seed=6)
    assert head.problems_of(earlier, later).count("") > 280
    assert head.problems_of(earlier, later[::-1]).count(OTHER_BIN) > 150
    assert head.problems_of(later, later) == [SAME_PHOTO] * 300


def test_calibration_gives_the_photo_the_share_that_it_deserves(head):
    earlier, later, before, after, _ = pairs(400, seed=7, noise=3)
    groups = [str(row) for row in range(400)]
    right, wrong = np.full((400, 5), 0.05), np.random.default_rng(8).dirichlet(np.ones(5), 400)
    right[np.arange(400), after] = 0.8
    shares = [
        head.calibrated(earlier, later, before, after, groups, photo, PRIOR).photo_share for photo in (right, wrong)
    ]
    assert shares[0] > 0.5 > 0.2 > shares[1]


def test_the_interval_of_a_joint_distribution_holds_the_count_as_often_as_it_says(head):
    earlier, later, before, after, _ = pairs(800, seed=9, noise=2)
    photo, groups = np.full((400, 5), 0.2), [str(row) for row in range(400)]
    calibrated = head.calibrated(earlier[:400], later[:400], before[:400], after[:400], groups, photo, PRIOR)
    joint = calibrated.joint(earlier[400:], later[400:], before[400:], photo, PRIOR)
    low, high = calibrated.calibration(FIVE).bounds(joint, alpha=0.1)
    assert 0.85 < ((low <= after[400:]) & (after[400:] <= high)).mean() <= 1


def test_an_earlier_photo_without_calibration_pairs_changes_nothing(head):
    assert head.calibrated(*[np.empty((0, 12))] * 2, *[np.empty(0, int)] * 2, [], np.empty((0, 5)), PRIOR) is head
