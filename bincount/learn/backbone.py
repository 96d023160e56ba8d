"""The network that turns photos into features."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from bincount.errors import ConfigError, DataError, StoreError
from bincount.files import is_whole_zip
from bincount.learn import efficientnet_lite
from bincount.learn.weights import load_network

STATISTICS_PHOTOS = 96
"""Photos that set the batch-norm statistics of random weights: enough at the first stages' many pixels."""

_RANDOM_STAGES = 3
"""With random weights the first stages carry the signal and the last ones none (docs/log/learn.md)."""


AUTO, FIRST_CHOICE = "auto", "ResNet50"
"""The name that stands for the best backbone in reach, and the one that it means first."""

_log = logging.getLogger(__name__)


class Backbone(NamedTuple):
    """A feature extractor.

    Attributes:
        name: A class of `keras.applications`, or "EfficientNetLite0".
        model: uint8 RGB (B, image_px, image_px, 3) to float32 features (B, D):
            each stage's activations averaged over the picture, side by side;
            with random weights their root mean squares too.
            Its layer "network" is the network, as far as it is needed.
        weights: "imagenet", "none" or the digest of a file.
        why: Why "auto" chose it, "" where it was named.
    """

    name: str
    model: keras.Model
    weights: str
    why: str = ""


def build_backbone(name: str, weights: str, *, image_px: int, seed: int = 0) -> Backbone:
    """Builds the feature extractor of a Keras application.

    The network's own normalisation is inside. With trained weights every
    stage is pooled; with random ones only the first three, and the network
    ends there.

    Args:
        name: A class of `keras.applications`, such as "ResNet50"; "EfficientNetLite0", whose ImageNet weights are
            installed with bincount; or "auto": ResNet50 where its ImageNet
            weights are cached or can be downloaded, otherwise EfficientNetLite0.
        weights: "auto", "imagenet", "none" or a file: see `load_network`. With "auto" as the name the last two mean
            ResNet50.
        image_px: Side of the square photos.
        seed: What random weights are drawn from.

    Raises:
        ConfigError: If there is no such application, it does not take photos
            of that size, or the weights' file does not fit it.
        StoreError: If ImageNet weights are neither cached nor to be downloaded, nor in an installed package.
    """
    if name == AUTO:
        return _choose(weights, image_px=image_px, seed=seed)
    is_lite = name == efficientnet_lite.NAME
    application = efficientnet_lite.EfficientNetLite0 if is_lite else getattr(keras.applications, name, None)
    if not callable(application):
        raise ConfigError(
            f"backbone: must be auto, {efficientnet_lite.NAME} or a class of keras.applications, "
            f"got {name!r}. Try {FIRST_CHOICE}."
        )
    shape = (image_px, image_px, 3)

    def build(kind: str | None) -> keras.Model:
        try:
            return application(include_top=False, weights=kind, input_shape=shape)
        except ValueError as error:
            if kind is None:
                raise ConfigError(f"backbone: {name} cannot be built at {image_px} px: {error}") from error
            raise

    network, resolved = load_network(build, name, weights, seed=seed)
    stages = efficientnet_lite.stages_of(network) if is_lite else stages_of(network)
    if resolved == "none":
        stages = stages[:_RANDOM_STAGES]
    network = keras.Model(network.input, stages, name="network")
    network.trainable = False
    photos = keras.Input(shape, dtype="uint8", name="photos")
    outputs = network(normalisation_of(application)(ops.cast(photos, "float32")))
    pooled = []
    for stage in keras.tree.flatten(outputs):
        pooled.append(layers.GlobalAveragePooling2D(dtype="float32")(stage))
        if resolved == "none":
            # On real bins no worse than averages alone, on rendered ones 3 points better (docs/log/learn.md).
            pooled.append(ops.sqrt(layers.GlobalAveragePooling2D(dtype="float32")(ops.square(stage)) + 1e-6))
    features = layers.Concatenate(dtype="float32")(pooled)
    return Backbone(name, keras.Model(photos, features, name="backbone"), resolved)


def _choose(weights: str, *, image_px: int, seed: int) -> Backbone:
    if weights not in {"auto", "imagenet"}:
        return build_backbone(FIRST_CHOICE, weights, image_px=image_px, seed=seed)
    try:
        chosen = build_backbone(FIRST_CHOICE, "imagenet", image_px=image_px, seed=seed)
        why = "its ImageNet weights are in reach"
    except StoreError as error:
        chosen = build_backbone(efficientnet_lite.NAME, "imagenet", image_px=image_px, seed=seed)
        why = f"the ImageNet weights of {FIRST_CHOICE} are neither cached nor can they be downloaded"
        _log.info("%s", error)
    _log.info("backbone=auto is %s: %s", chosen.name, why)
    return chosen._replace(why=why)


def load_backbone(path: Path) -> keras.Model:
    """Loads a saved backbone's model, in Keras' safe mode.

    Raises:
        DataError: If the file is not what was written.
    """
    if not is_whole_zip(path):
        raise DataError(
            f"{path}: must be the network that prepare saved, got a damaged file or none. Run `bincount prepare` again."
        )
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def with_last_activations(backbone: keras.Model) -> keras.Model:
    """A backbone with the same weights whose features hold the network's last activations too."""
    network = backbone.get_layer("network")
    if efficientnet_lite.has_every_stage(network):
        network = efficientnet_lite.with_head(network)
    photos = keras.Input(backbone.input.shape[1:], dtype="uint8", name="photos")
    outputs = network(backbone.get_layer("normalisation")(ops.cast(photos, "float32")))
    pooled = [layers.GlobalAveragePooling2D(dtype="float32")(stage) for stage in keras.tree.flatten(outputs)]
    return keras.Model(photos, layers.Concatenate(dtype="float32")(pooled), name="backbone")


def stages_of(network: keras.Model) -> list[keras.KerasTensor]:
    """The richest activations of each resolution: the last with the most channels; the output for the last.

    A network without its top is a chain of stages, each at half the
    resolution of the one before.
    """
    side = network.input.shape[1]
    last = round(math.log2(side / network.output.shape[1]))
    best: dict[int, keras.KerasTensor] = {}
    for layer in network.layers:
        tensor = layer.output
        if isinstance(tensor, list) or len(tensor.shape) != 4 or isinstance(layer, layers.ZeroPadding2D):
            continue
        halvings = round(math.log2(side / tensor.shape[1]))
        channels = tensor.shape[3]
        if channels > 3 and channels >= (best[halvings].shape[3] if halvings in best else 0):
            best[halvings] = tensor
    # Beyond the last there are only the single pixels of squeeze-and-excitation.
    return [*(best[halvings] for halvings in sorted(best) if halvings < last), network.output]


def layers_of_stages(backbone: keras.Model, stages: int) -> list[layers.Layer]:
    """The layers of a backbone's network from its input to the end of its first stages."""
    network = backbone.get_layer("network")
    if not stages:
        return []
    last = network.outputs[stages - 1]._keras_history.operation
    return network.layers[: 1 + network.layers.index(last)]


def set_statistics(backbone: Backbone, photos: np.ndarray) -> None:
    """Sets the batch-norm statistics of a network with random weights from some training photos.

    Without this the activations of random layers drift and saturate.

    Args:
        backbone: Changed in place.
        photos: uint8 (N, image_px, image_px, 3), about `STATISTICS_PHOTOS` of them.
    """
    norms = [
        layer for layer in backbone.model.get_layer("network").layers if isinstance(layer, layers.BatchNormalization)
    ]
    before = [(norm.momentum, norm.trainable) for norm in norms]
    for norm in norms:
        norm.momentum, norm.trainable = 0.0, True  # one pass leaves exactly these photos' statistics
    # As a graph: eagerly Keras holds every layer's activations to the end, 10 GB at 224 px.
    tf.function(lambda batch: backbone.model(batch, training=True))(tf.constant(photos))
    for norm, (momentum, trainable) in zip(norms, before, strict=True):
        norm.momentum, norm.trainable = momentum, trainable


def normalisation_of(application: object) -> layers.Layer:
    """The application's own preprocessing as a fixed 1x1 convolution, read off what it does to four colours.

    All of them are affine in RGB (mean, scale, channel order), and a
    convolution is a stock layer that any saved model can hold.

    Args:
        application: A class of `keras.applications`.

    Returns:
        A layer for float32 RGB (B, H, W, 3), 0 to 255.
    """
    preprocess = sys.modules[application.__module__].preprocess_input  # type: ignore[attr-defined]
    colours = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)]).astype("float32").reshape(4, 1, 1, 3)
    black, *primaries = np.asarray(preprocess(colours)).reshape(4, 3)
    convolution = layers.Conv2D(3, 1, trainable=False, name="normalisation")
    convolution.build((None, None, None, 3))
    convolution.set_weights([((np.array(primaries) - black) / 255).reshape(1, 1, 3, 3), black])
    return convolution


def fine_width(backbone: keras.Model) -> int:
    """Number of the first features that come from activations with at least a 16th of the photo's resolution.

    Args:
        backbone: Photos (B, px, px, 3) uint8 to features (B, D), its stages side by side in the order of its "network".
    """
    network = backbone.get_layer("network")
    side, channels = network.input.shape[1], [stage.shape[3] for stage in network.outputs]
    fine = [each for each, stage in zip(channels, network.outputs, strict=True) if 16 * stage.shape[1] >= side]
    return backbone.output.shape[1] // sum(channels) * sum(fine)
