"""bfloat16 where the processor has it, and only for models that it does not change."""

import pytest

from bincount.learn.predictor import Predictor, has_bfloat16
from bincount.registry.register import parity_of
from tests.tiny import photo, write_model

PHOTOS = [photo(items=items, seed=items) for items in range(1, 6)]
needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")


@needs_bfloat16
def test_a_model_in_bfloat16_says_nearly_the_same(tmp_path):
    write_model(tmp_path, seed=1, sharpness=4.0)
    exact, fast = Predictor(tmp_path), Predictor(tmp_path, bfloat16=True)
    assert fast.bfloat16
    assert not exact.bfloat16
    apart = abs(exact.predict(PHOTOS) - fast.predict(PHOTOS)).max()
    assert 1e-6 < apart < 0.02  # above 0: it is computed otherwise
    assert parity_of(exact, fast, PHOTOS[:1], PHOTOS) is True
    # What the one computes in bfloat16 leaves the other as it was.
    assert (exact.predict(PHOTOS) == Predictor(tmp_path).predict(PHOTOS)).all()


@needs_bfloat16
def test_a_model_that_half_the_bits_change_does_not_pass(tmp_path):
    write_model(tmp_path / "one", seed=1, sharpness=4.0)
    write_model(tmp_path / "other", seed=2, sharpness=4.0)
    exact, other = Predictor(tmp_path / "one"), Predictor(tmp_path / "other", bfloat16=True)
    assert parity_of(exact, other, PHOTOS, []) is False


def test_without_bfloat16_nothing_is_said_of_it(tmp_path):
    write_model(tmp_path)
    exact = Predictor(tmp_path)
    assert parity_of(exact, exact, PHOTOS, []) is None
