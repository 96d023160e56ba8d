"""Counts the items on photos with a saved model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bincount.counts import Counts
from bincount.errors import DataError, RowError
from bincount.learn.engine import open_network
from bincount.learn.images import PAD_VALUE, box_of, decode, looks_of

FEATURES = "features"
"""Name of the layer whose output the head gets."""
MODEL = "model.keras"
_THREADS = 2


class Observation(NamedTuple):
    """Predictions for N photos, with features and looks.

    Attributes:
        probabilities: (N, len(counts)) float32, calibrated.
        features: (N, D) float32, the input of its head; None if the network does not give them.
        brightness: (N,) mean grey values, 0 to 255.
        sharpness: (N,) variances of the Laplacian.
    """

    probabilities: np.ndarray
    features: np.ndarray | None
    brightness: np.ndarray
    sharpness: np.ndarray


class Predictor:
    """A model from its folder.

    Attributes:
        counts: The counts that the model tells apart.
        facts: The content of model.json.
        precision: "float32" or "bfloat16".
        library: "openvino" or "tensorflow".
        batches: Batch sizes of the network; one in between is filled up with grey.
    """

    def __init__(self, folder: Path, *, precision: str | None = None) -> None:
        """Opens the model.

        Args:
            folder: Holds `model.json` and the files of `engine.save_network`.
            precision: "float32" or "bfloat16"; None for the fastest that was checked.

        Raises:
            DataError: If a file is absent or damaged.
        """
        try:
            self.facts = json.loads((folder / "model.json").read_text())
            self.counts = Counts.parse(self.facts["counts"])
            self._image_px, self._fit = self.facts["image_px"], self.facts["fit"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{folder.name}: must hold a model.json, got {error}. Run `bincount train` again."
            ) from error
        self._network = open_network(folder / MODEL, outputs=(FEATURES,), precision=precision)
        self.precision, self.library = self._network.precision, self._network.library
        self.batches = self._network.batches
        self._grey = np.full((self._image_px, self._image_px, 3), PAD_VALUE, np.uint8)

    def predict(self, images: Sequence[bytes]) -> np.ndarray:
        """Predicts the counts of photos.

        Args:
            images: Bytes of JPEG or PNG files, one or more.

        Returns:
            Calibrated probabilities (N, len(counts)) float32.

        Raises:
            DataError: If there is no photo.
            RowError: If one cannot be decoded.
        """
        return self.outputs(images)[0]

    def outputs(self, images: Sequence[bytes]) -> list[np.ndarray]:
        """Predicts as `predict` does, with features where the network gives them: (N, len(counts)), (N, D) float32.

        Args:
            images: Bytes of JPEG or PNG files, one or more.

        Raises:
            DataError: As `predict`.
        """
        batches = [self._outputs(photos) for photos in self._batches(images)]
        return [np.concatenate(output) for output in zip(*batches, strict=True)]

    def observe(self, images: Sequence[bytes]) -> Observation:
        """Predicts as `predict` does, with features and what the photos look like.

        Args:
            images: Bytes of JPEG or PNG files, one or more.

        Raises:
            DataError: As `predict`.
        """
        rows = []
        for photos in self._batches(images):
            outputs = self._outputs(photos)
            rows.append((outputs[0], outputs[1] if len(outputs) > 1 else None, *looks_of(np.stack(photos))))
        probabilities, features, brightness, sharpness = zip(*rows, strict=True)
        return Observation(
            np.concatenate(probabilities),
            None if features[0] is None else np.concatenate(features),
            np.concatenate(brightness),
            np.concatenate(sharpness),
        )

    def observe_readable(self, images: Sequence[bytes]) -> tuple[Observation | None, dict[int, RowError]]:
        """Observes the photos that can be decoded: a header may be valid where the pixels are not.

        Args:
            images: Bytes of JPEG or PNG files.

        Returns:
            The observation of those photos in their order, None if there is none; and the error of each other one, by
            its row.
        """
        rows: list[int] = list(range(len(images)))
        damaged: dict[int, RowError] = {}
        while rows:
            try:
                return self.observe([images[row] for row in rows]), damaged
            except RowError as error:
                damaged[rows.pop(error.row)] = error
        return None, damaged

    def decode(self, image: bytes) -> tuple[np.ndarray, tuple[slice, slice]]:
        """A photo as the network gets it, (px, px, 3) uint8, and the rows and columns that are not padding.

        Raises:
            RowError: If it cannot be decoded.
        """
        return self._decode(0, image), box_of(image, image_px=self._image_px, fit=self._fit)

    def predict_decoded(self, photos: Sequence[np.ndarray]) -> np.ndarray:
        """Predicts as `predict` does, for photos (px, px, 3) uint8 of `decode`."""
        size = self.batches[-1]
        starts = range(0, len(photos), size)
        return np.concatenate([self._outputs(list(photos[start : start + size]))[0] for start in starts])

    def _batches(self, images: Sequence[bytes]) -> Iterator[list[np.ndarray]]:
        """Decoded photos; the next batch is decoded while the network computes."""
        if not images:
            raise DataError("image: at least one photo is needed, got none. Send one per row.")
        if len(images) == 1:  # starting threads takes longer than decoding a photo
            yield [self._decode(0, images[0])]
            return
        size = self.batches[-1]
        with ThreadPoolExecutor(_THREADS) as threads:
            ahead = [threads.submit(self._decode, row, data) for row, data in enumerate(images)]
            for start in range(0, len(images), size):
                yield [photo.result() for photo in ahead[start : start + size]]

    def _decode(self, row: int, data: bytes) -> np.ndarray:
        try:
            return decode(data, image_px=self._image_px, fit=self._fit)
        except DataError as error:
            raise RowError(row, str(error)) from None

    def _outputs(self, photos: list[np.ndarray]) -> list[np.ndarray]:
        batch = next(batch for batch in self.batches if batch >= len(photos))
        filled = np.stack([*photos, *[self._grey] * (batch - len(photos))])
        return [output[: len(photos)] for output in self._network(filled)]
