"""Devices that compute a network: a processor, a GPU, or several."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

MIXED = "mixed_bfloat16"
"""Computed in bfloat16, kept in float32: as fast as float16 on a GPU and without its narrow range."""


def on_gpu() -> bool:
    """True if TensorFlow has a GPU. XLA and bfloat16 pay there; on most processors they cost."""
    return bool(tf.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def spread(kind: str = "GPU") -> Iterator[bool]:
    """The scope in which a network is created and trained on all GPUs at once; yields whether there are several.

    Args:
        kind: TensorFlow's kind of device; "CPU" to try it on two logical ones.
    """
    names = [device.name for device in tf.config.list_logical_devices(kind)]
    if len(names) < 2:
        yield False
        return
    with tf.distribute.MirroredStrategy(names).scope():
        yield True


@contextlib.contextmanager
def mixed_precision(backbone: keras.Model) -> Iterator[None]:
    """Computes a backbone in bfloat16 while the block lasts; its weights, and what it pools, stay float32."""
    layers = [
        layer
        for layer in backbone._flatten_layers(include_self=False)
        if not isinstance(layer, keras.layers.GlobalAveragePooling2D | keras.layers.Concatenate | keras.Model)
    ]
    before = [layer.dtype_policy for layer in layers]
    for layer in layers:
        layer.dtype_policy = keras.dtype_policies.get(MIXED)
    try:
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy
