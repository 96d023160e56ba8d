"""Several networks as one."""

import keras
import numpy as np
import pytest

from bincount.learn.backbone import build_compact
from bincount.learn.model import assemble, average, build_plain_head, join

PHOTOS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("members", [1, 3])
def test_the_logits_of_many_are_averaged_and_safe_mode_loads_them(members, tmp_path):
    keras.utils.set_random_seed(0)
    backbones = [build_compact(image_px=32) for _ in range(members)]
    heads = [build_plain_head(192, 5) for _ in range(members)]
    alone = [np.asarray(join(*pair)(PHOTOS, training=False)) for pair in zip(backbones, heads, strict=True)]
    together = average(backbones, heads)
    np.testing.assert_allclose(np.asarray(join(*together)(PHOTOS, training=False)), np.mean(alone, axis=0), atol=1e-5)
    whole = assemble(*together, temperature=1.0)
    whole.save(tmp_path / "whole.keras")
    loaded = keras.saving.load_model(tmp_path / "whole.keras", safe_mode=True)
    np.testing.assert_allclose(np.asarray(loaded(PHOTOS)), np.asarray(whole(PHOTOS)), atol=1e-6)
