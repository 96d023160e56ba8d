"""A whole network in little, and how it is trained."""

import keras

from bincount.learn.backbone import build_backbone
from bincount.learn.model import build_plain_head, join
from bincount.learn.whole_network import Recipe

RECIPE = Recipe(learning_rate=3e-3, batch_size=16, epochs=4)


def network_of(seed=0):
    """An untrained compact network for 32-px photos and five classes."""
    keras.utils.set_random_seed(seed)
    backbone = build_backbone("compact", "none", image_px=32, seed=seed).model
    return join(backbone, build_plain_head(192, 5))
