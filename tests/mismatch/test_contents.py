"""The judge of contents on lists whose truth is known."""

import numpy as np
import pytest

from bincount.counts import Counts
from bincount.dataset.contents import Product, sums_of
from bincount.errors import DataError
from bincount.mismatch.contents import FEWEST_BINS, FILE, ContentsJudge, has_sizes

FIVE = Counts.parse("1-5")
PRIOR = np.full(5, 0.2)


def product(quantity, side=5.0, weight=0.5):
    return Product(quantity, (side, side, side), weight)


def bins(n, seed=0, noise=0.15):
    """Lists, totals, and what photos tell: little of the count, much of the volume."""
    rng = np.random.default_rng(seed)
    contents, truth = [], []
    for _ in range(n):
        products = [product(int(rng.integers(1, 3)), float(rng.uniform(2, 9))) for _ in range(rng.integers(1, 3))]
        products[0] = product(int(rng.integers(1, 4 if len(products) == 1 else 3)), products[0].sides_in[0])
        contents.append(tuple(products))
        truth.append(min(sum(each.quantity for each in products), 5) - 1)
    truth = np.array(truth)
    truth[:5] = range(5)
    contents[:5] = [(product(count),) for count in range(1, 6)]
    photo = np.full((n, 5), 0.15)
    photo[np.arange(n), np.clip(truth + rng.integers(-1, 2, n), 0, 4)] = 0.4
    sums = np.array([sums_of(each) for each in contents]) + rng.normal(0, noise, (n, 5))
    return contents, truth, photo, sums


@pytest.fixture(scope="module")
def judge():
    contents, truth, *_ = bins(600)
    learned = ContentsJudge.fit(contents, truth, FIVE)
    held_out, its_truth, photo, sums = bins(300, seed=1)
    groups = [str(row // 2) for row in range(300)]
    pairs = np.arange(300).reshape(-1, 2)
    return learned.calibrated(held_out, its_truth, groups, photo, sums, PRIOR, pairs)


def nll(distribution, truth):
    return -np.log(distribution[np.arange(len(truth)), truth]).mean()


def test_list_and_volume_tell_the_total_better_than_either(judge):
    contents, truth, photo, sums = bins(300, seed=2)
    both = judge.totals(contents, photo, sums, PRIOR)
    assert np.allclose(both.sum(axis=1), 1, atol=1e-4)
    assert nll(both, truth) < nll(judge.list_only(contents), truth) < np.log(5)
    assert nll(both, truth) < nll(photo, truth)
    low, high = judge.calibration.bounds(both, alpha=0.1)
    assert ((low <= truth) & (truth <= high)).mean() > 0.85


def test_a_neighbour_s_record_fits_the_photo_worse(judge):
    contents, truth, photo, sums = bins(300, seed=3)
    other = np.arange(300) ^ 1
    own = judge.missed_evidence(contents, truth, photo, sums, PRIOR)
    missed = judge.missed_evidence([contents[row] for row in other], truth[other], photo, sums, PRIOR)
    assert (missed > own).mean() > 0.75


def test_volumes_without_noise_decide(judge):
    contents = [(product(1),), (product(4),)]
    sums = np.array([sums_of([product(4)]), sums_of([product(4)])])
    joint = judge.joint(contents, np.tile(PRIOR, (2, 1)), sums, PRIOR, [PRIOR, None])
    assert np.allclose(joint.sum(axis=1), 1)
    assert joint[:, 3].min() > joint[:, 0].max()


def test_the_pair_of_photos_replaces_the_photo_beside_the_products(judge):
    contents, _, photo, sums = (each[:2] for each in bins(300, seed=4))
    pair = np.array([0.0, 1.0, 0.0, 0.0, 0.0])
    with_pair, alone = judge.joint(contents, photo, sums, PRIOR, [pair, None])
    assert with_pair.tolist() == pair.tolist()
    assert np.allclose(alone, judge.totals(contents, photo, sums, PRIOR)[1])


@pytest.mark.parametrize(
    ("products", "known"),
    [
        ((), False),
        ((Product(3, None, 1.0),), False),
        ((product(1), Product(1, None, None)), False),
        ((product(1), Product(0, None, None)), True),
        ((Product(2, (1.0, 1.0, 1.0), None),), True),
        ((product(1),) * 500, True),
    ],
)
def test_sizes_must_be_known_and_weights_need_not(judge, products, known):
    assert has_sizes(products) is known
    if known:
        totals = judge.totals([products], np.full((1, 5), 0.2), sums_of(products)[None], PRIOR)
        assert np.isfinite(totals).all()
        evidence = judge.missed_evidence(
            [products], np.array([2]), np.full((1, 5), 0.2), sums_of(products)[None], PRIOR
        )
        assert np.isfinite(evidence).all()


def test_too_few_records_with_sizes_give_no_judge(judge):
    contents, truth, photo, sums = bins(FEWEST_BINS - 1)
    assert ContentsJudge.fit(contents, truth, FIVE) is None
    nothing = np.empty((0, 2), int)
    groups = [""] * len(truth)
    assert judge.calibrated(contents, truth, groups, photo, sums, PRIOR, nothing) is None
    assert ContentsJudge.fit([()] * 600, np.arange(600) % 5, FIVE) is None


def test_a_judge_is_read_as_it_was_written(judge, tmp_path):
    assert ContentsJudge.read(tmp_path) is None
    judge.write(tmp_path)
    contents, _, photo, sums = bins(50, seed=4)
    same = ContentsJudge.read(tmp_path)
    np.testing.assert_allclose(
        same.totals(contents, photo, sums, PRIOR), judge.totals(contents, photo, sums, PRIOR), rtol=1e-9
    )
    assert same.counts == FIVE
    (tmp_path / FILE).write_text('{"counts": "1-5"}')
    with pytest.raises(DataError, match=r"contents.json: must be what training wrote"):
        ContentsJudge.read(tmp_path)


def test_without_pairs_a_missed_transaction_is_judged_by_the_count():
    contents, truth, *_ = bins(600)
    held, its_truth, photo, sums = bins(300, seed=1)
    groups, nothing = [str(row) for row in range(300)], np.empty((0, 2), int)
    judge = ContentsJudge.fit(contents, truth, FIVE).calibrated(held, its_truth, groups, photo, sums, PRIOR, nothing)
    sure = np.array([[0.01, 0.96, 0.01, 0.01, 0.01]])
    products = [(product(2),)]
    right, wrong = (
        judge.missed_evidence(products, np.array([recorded]), sure, sums[:1], PRIOR)[0] for recorded in (1, 3)
    )
    assert right < 1 / 3 < 3 < wrong
