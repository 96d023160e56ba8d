"""The sums head on features whose truth is known."""

import numpy as np
import pytest

from bincount.errors import DataError
from bincount.mismatch.sums import FEWEST_BINS, FILE, SumsHead

BLOCKS = [str(row // 10) for row in range(400)]


def bins(seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(2, 3, (400, 20))
    weights = np.random.default_rng(9).normal(0, 1, (20, 5))
    return features, features @ weights + 1 + rng.normal(0, 0.5, (400, 5))


def test_it_predicts_sums_of_bins_that_it_has_not_seen():
    head = SumsHead.fit(*bins(), BLOCKS)
    features, sums = bins(seed=1)
    assert np.square(head.predict(features) - sums).mean() < 0.1 * sums.var()


def test_bins_without_a_size_are_not_learned_from():
    features, sums = bins()
    gaps = sums.copy()
    gaps[::3, 0] = np.nan
    kept = np.isfinite(gaps).all(axis=1)
    blocks = [block for block, there in zip(BLOCKS, kept, strict=True) if there]
    assert np.array_equal(
        SumsHead.fit(features, gaps, BLOCKS).weights, SumsHead.fit(features[kept], sums[kept], blocks).weights
    )


def test_too_few_bins_give_no_head():
    features, sums = bins()
    assert SumsHead.fit(features[: FEWEST_BINS - 1], sums[: FEWEST_BINS - 1], BLOCKS[: FEWEST_BINS - 1]) is None
    assert SumsHead.fit(features, np.full_like(sums, np.nan), BLOCKS) is None


def test_a_head_is_read_as_it_was_written(tmp_path):
    assert SumsHead.read(tmp_path) is None
    head, features = SumsHead.fit(*bins(), BLOCKS), bins(seed=2)[0]
    head.write(tmp_path)
    np.testing.assert_allclose(SumsHead.read(tmp_path).predict(features), head.predict(features), rtol=1e-9)
    (tmp_path / FILE).write_text('{"weights": [[1]]}')
    with pytest.raises(DataError, match=r"sums.json: must be what training wrote"):
        SumsHead.read(tmp_path)
