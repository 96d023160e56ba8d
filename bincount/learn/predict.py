"""Counting with a saved model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from bincount.core.counts import Counts
from bincount.core.errors import DataError
from bincount.learn.bfloat16 import has_bfloat16, in_bfloat16
from bincount.learn.images import check_image, decode

BATCHES = (1, 8, 32)
"""Batch shapes the model is warmed for, at load; what lies between is filled up with grey."""


class Predictor:
    """A model loaded from a run's folder, compiled and warmed.

    Attributes:
        counts: The counts that the model tells apart.
        facts: The content of model.json.
        bfloat16: Whether it computes in bfloat16.
    """

    def __init__(self, folder: Path, *, bfloat16: bool = False) -> None:
        """Loads `model.keras` in Keras' safe mode and `model.json`.

        Args:
            folder: Holds them.
            bfloat16: Whether to compute in bfloat16, if this processor does.

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
        if not images:
            raise DataError("image: one photo at least is needed, got none. Send one a row.")
        with ThreadPoolExecutor(2) as threads:
            photos = list(threads.map(self._photo, range(len(images)), images))
        return np.concatenate(
            [self._probabilities(photos[at : at + BATCHES[-1]]) for at in range(0, len(photos), BATCHES[-1])]
        )

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

    def _probabilities(self, photos: list[tf.Tensor]) -> np.ndarray:
        batch = next(batch for batch in BATCHES if batch >= len(photos))
        filled = photos + [tf.fill(photos[0].shape, tf.constant(127, tf.uint8))] * (batch - len(photos))
        return self._graph(tf.stack(filled))[0].numpy()[: len(photos)]
