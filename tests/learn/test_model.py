"""The parts of a model, joined."""

import keras
import numpy as np

from bincount.learn.model import assemble, build_plain_head, join, restrict
from tests.learn.networks import network_of

PHOTOS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


def test_a_restricted_head_gives_the_logits_of_its_classes_and_safe_mode_loads_the_model(tmp_path):
    backbone, head = network_of().get_layer("backbone"), build_plain_head(64, 7)
    every = np.asarray(join(backbone, head)(PHOTOS, training=False))
    restricted = restrict(head, slice(1, 6))
    np.testing.assert_allclose(np.asarray(join(backbone, restricted)(PHOTOS, training=False)), every[:, 1:6], atol=1e-6)
    whole = assemble(backbone, restricted, temperature=1.0)
    whole.save(tmp_path / "whole.keras")
    loaded = keras.saving.load_model(tmp_path / "whole.keras", safe_mode=True)
    np.testing.assert_allclose(np.asarray(loaded(PHOTOS)), np.asarray(whole(PHOTOS)), atol=1e-6)
