"""The seed's way of searching: the whole frozen network in every step of every trial; for `benchmarks.search`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure import timed

if TYPE_CHECKING:
    import keras

    from bincount.learn.feature_extraction import Examples

_SLICE_BATCHES, _BATCH = 8, 32


def whole_network(image_px: int, weights: str, seen: np.ndarray) -> keras.Model:
    """The seed's extractor: all of ResNet50, its last stage averaged; uint8 photos in."""
    import keras

    from bincount.learn.backbone import Backbone, normalisation_of, set_statistics

    shape = (image_px, image_px, 3)
    kind = None if weights == "none" else weights
    keras.utils.set_random_seed(0)
    network = keras.applications.ResNet50(
        include_top=False, weights=kind, input_shape=shape, pooling="avg", name="network"
    )
    photos = keras.Input(shape, dtype="uint8")
    inputs = normalisation_of(keras.applications.ResNet50)(keras.ops.cast(photos, "float32"))
    model = keras.Model(photos, network(inputs))
    model.trainable = False
    if kind is None:
        set_statistics(Backbone("ResNet50", model, "none"), seen)
    return model


def build_seed_head(features: keras.KerasTensor, inputs: keras.KerasTensor, learning_rate: float) -> keras.Model:
    """The seed's head, 2048-128-5, compiled with Adam."""
    import keras

    hidden = keras.layers.Dense(128, "relu")(features)
    network = keras.Model(inputs, keras.layers.Dense(5)(hidden))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(learning_rate), loss)
    return network


def seed_slices(
    source: Path, ids: Sequence[str], extractor: keras.Model, image_px: int, slices: int
) -> dict[str, list[dict]]:
    """Times the seed's training and validation on a slice of photos, after a first pass that is not counted."""
    import tensorflow as tf

    photos = _SLICE_BATCHES * _BATCH
    paths = [str(source / "bin-images" / f"{ids[number % len(ids)]}.jpg") for number in range(photos)]

    def read(path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path), channels=3), (image_px, image_px))
        return tf.cast(image, tf.uint8), tf.constant(0)

    batches = tf.data.Dataset.from_tensor_slices(paths).map(read, num_parallel_calls=tf.data.AUTOTUNE)
    batches = batches.batch(_BATCH).prefetch(tf.data.AUTOTUNE)
    model = build_seed_head(extractor.output, extractor.input, 1e-3)
    model.fit(batches.take(2), shuffle=False, verbose=0)
    model.evaluate(batches.take(2), verbose=0)
    slices_by_kind: dict[str, list[dict]] = {"train": [], "validation": []}
    for _ in range(slices):
        for kind, work in (("train", partial(model.fit, shuffle=False)), ("validation", model.evaluate)):
            spent = timed(partial(work, batches, verbose=0))
            slices_by_kind[kind].append({"photos": photos, **asdict(spent)})
    return slices_by_kind


def seed_head(train: Examples, validation: Examples, *, learning_rate: float, batch_size: int, epochs: int) -> float:
    """The validation NLL that the seed's way would reach with these hyperparameters, its best epoch's."""
    import keras

    keras.utils.set_random_seed(0)
    seen, judged = (part.features[:, 0].astype(np.float32) for part in (train, validation))
    inputs = keras.Input((seen.shape[1],))
    head = build_seed_head(inputs, inputs, learning_rate)
    fitted = head.fit(seen, train.classes, batch_size=batch_size, epochs=epochs, verbose=0,
                      validation_data=(judged, validation.classes))  # fmt: skip
    return float(min(fitted.history["val_loss"]))
