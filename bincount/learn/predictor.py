"""Counting with a saved model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from bincount.counts import Counts
from bincount.errors import DataError
from bincount.learn.images import check_image, decode, looks_of
from bincount.learn.model import FEATURES

BATCHES = (1, 8, 32)
"""Batch shapes the model is warmed for, at load; what lies between is filled up with grey."""


class Observed(NamedTuple):
    """What a model says of N photos, and what they look like to it.

    Attributes:
        probabilities: (N, len(counts)) float32, calibrated.
        features: (N, D) float32, what its head sees; None in a model assembled before that layer had a name.
        brightness: (N,) mean grey values, 0 to 255.
        sharpness: (N,) variances of the Laplacian.
    """

    probabilities: np.ndarray
    features: np.ndarray | None
    brightness: np.ndarray
    sharpness: np.ndarray


class Predictor:
    """A model loaded from a run's folder, compiled and warmed.

    Attributes:
        counts: The counts that the model tells apart.
        facts: The content of model.json.
        bfloat16: Whether it computes in bfloat16.
    """

    def __init__(self, folder: Path, *, bfloat16: bool = False, features: bool = False) -> None:
        """Loads `model.keras` in Keras' safe mode and `model.json`.

        Args:
            folder: Holds them.
            bfloat16: Whether to compute in bfloat16, if this processor does.
            features: Whether `observe` shall give features: a second output of the same pass.

        Raises:
            DataError: If one of them is absent or cannot be read.
        """
        try:
            self.facts = json.loads((folder / "model.json").read_text())
            model = keras.saving.load_model(folder / "model.keras", compile=False, safe_mode=True)
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{folder.name}: must hold model.keras and model.json, got {error}. Run `bincount train` again."
            ) from error
        self.counts = Counts.parse(self.facts["counts"])
        self._image_px, self._fit = self.facts["image_px"], self.facts["fit"]
        self._decode = tf.function(
            lambda data: decode(data, image_px=self._image_px, fit=self._fit),
            input_signature=[tf.TensorSpec((), tf.string)],
        )
        shape = (self._image_px, self._image_px, 3)
        if features and FEATURES in {layer.name for layer in model.layers}:
            model = keras.Model(model.input, [model.output, model.get_layer(FEATURES).output])
        graph = tf.function(lambda photos: model(photos, training=False))
        # Weights as constants: TensorFlow then folds batch norms into convolutions, which takes a third off a photo's
        # time on two cores (docs/log/server.md). There is no public name for it.
        self._graph = convert_variables_to_constants_v2(
            graph.get_concrete_function(tf.TensorSpec((None, *shape), tf.uint8))
        )
        self.bfloat16 = bfloat16 and has_bfloat16()
        if self.bfloat16:
            self._graph = in_bfloat16(self._graph)
        for batch in BATCHES:
            self._graph(tf.zeros((batch, *shape), tf.uint8))

    def predict(self, images: Sequence[bytes]) -> np.ndarray:
        """Counts the items in photos.

        Args:
            images: Bytes of JPEG or PNG files, one or more.

        Returns:
            Calibrated probabilities (N, len(counts)) float32.

        Raises:
            DataError: If there is no photo, or one cannot be decoded; the
                message names its row.
        """
        return np.concatenate([self._answer(photos)[0] for photos in self._batches(images)])

    def observe(self, images: Sequence[bytes]) -> Observed:
        """Counts as `predict` does, and says what the photos look like.

        Args:
            images: Bytes of JPEG or PNG files, one or more.

        Raises:
            DataError: As `predict`.
        """
        rows = []
        for photos in self._batches(images):
            answer = self._answer(photos)
            looks = looks_of(tf.stack(photos))
            rows.append((answer[0], answer[1] if len(answer) > 1 else None, *(each.numpy() for each in looks)))
        probabilities, features, brightness, sharpness = zip(*rows, strict=True)
        return Observed(
            np.concatenate(probabilities),
            None if features[0] is None else np.concatenate(features),
            np.concatenate(brightness),
            np.concatenate(sharpness),
        )

    def _batches(self, images: Sequence[bytes]) -> list[list[tf.Tensor]]:
        if not images:
            raise DataError("image: one photo at least is needed, got none. Send one a row.")
        with ThreadPoolExecutor(2) as threads:
            photos = list(threads.map(self._photo, range(len(images)), images))
        return [photos[at : at + BATCHES[-1]] for at in range(0, len(photos), BATCHES[-1])]

    def _photo(self, row: int, data: bytes) -> tf.Tensor:
        try:
            check_image(data)
            return self._decode(data)
        except DataError as error:
            raise DataError(f"row {row}: {error}") from None
        except tf.errors.InvalidArgumentError:
            raise DataError(
                f"row {row}: image: its pixels must be whole, got damaged ones. Send the whole file."
            ) from None

    def _answer(self, photos: list[tf.Tensor]) -> list[np.ndarray]:
        batch = next(batch for batch in BATCHES if batch >= len(photos))
        filled = photos + [tf.fill(photos[0].shape, tf.constant(127, tf.uint8))] * (batch - len(photos))
        return [output.numpy()[: len(photos)] for output in self._graph(tf.stack(filled))]


_FLAGS = {"avx512_bf16", "amx_bf16"}


def has_bfloat16() -> bool:
    """Whether this machine's processor multiplies bfloat16 itself, and no GPU would do the work."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return bool(_FLAGS.intersection(flags)) and not tf.config.list_physical_devices("GPU")


def in_bfloat16(frozen: Any) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    """The same network with its convolutions and matrix products in bfloat16.

    TensorFlow's own graph optimiser decides which operations lose nothing that
    matters. It is asked here, once, and not through the process-wide option,
    which would change every other network of the process too. There is no
    public name for that.

    Args:
        frozen: A concrete function without variables, with one input and one output.
    """
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
    from tensorflow.python.eager import wrap_function
    from tensorflow.python.grappler import tf_optimizer
    from tensorflow.python.training import saver

    inputs, outputs = ([tensor.name for tensor in tensors] for tensors in (frozen.inputs, frozen.outputs))
    graph = saver.export_meta_graph(graph_def=frozen.graph.as_graph_def(), graph=frozen.graph)
    graph.collection_def["train_op"].node_list.value.extend([*inputs, *outputs])  # what must stay
    config = config_pb2.ConfigProto()
    rewriting = config.graph_options.rewrite_options
    rewriting.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    rewriting.min_graph_nodes = -1  # small networks too
    return wrap_function.function_from_graph_def(tf_optimizer.OptimizeGraph(config, graph), inputs, outputs)
