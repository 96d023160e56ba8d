"""A whole network in little, and how it is trained."""

import keras
from keras import layers

from bincount.learn.model import build_plain_head, join
from bincount.learn.network_training import Recipe

RECIPE = Recipe(learning_rate=3e-3, batch_size=16, epochs=4)
ALL = slice(0, 5)


def network_of(seed=0):
    """An untrained network for 32-px photos, five classes and five sums."""
    keras.utils.set_random_seed(seed)
    photos = keras.Input((32, 32, 3), dtype="uint8")
    hidden = layers.Rescaling(1 / 64, offset=-2)(photos)
    for width in (16, 32, 64):
        hidden = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(hidden)
        hidden = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(hidden))
    backbone = keras.Model(photos, layers.GlobalAveragePooling2D()(hidden), name="backbone")
    return join(backbone, build_plain_head(64, 5), build_plain_head(64, 5, name="sums"))
