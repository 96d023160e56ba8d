"""A version's model, warmed up: photos and records in, answers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import bincount.serving
from bincount.errors import BincountError
from bincount.learn.predictor import Predictor
from bincount.mismatch.answer import answers_of
from bincount.mismatch.calibration import Calibration
from bincount.serving.batcher import Batcher


class BinCounter:
    """Answers requests, also concurrent ones, with one model.

    Attributes:
        precision: "float32" or "bfloat16".
    """

    def __init__(self, folder: Path, *, timeout_s: float) -> None:
        """Opens the model and times it.

        Args:
            folder: The model's.
            timeout_s: Photos that waited longer are not counted.

        Raises:
            DataError: If a file is absent or damaged.
        """
        predictor = Predictor(folder)
        self.precision = predictor.precision
        self._counts, self._calibration = predictor.counts, Calibration.read(folder)
        # The code that a version carries runs from another place; the photo lies beside it.
        example = Path(bincount.serving.__file__).with_name("example.jpg").read_bytes()
        self._batcher = Batcher(predictor.predict, predictor.batches, example, timeout_s=timeout_s)

    @property
    def batches(self) -> Mapping[int, int]:
        """Number of batches by their number of photos, for metrics."""
        return dict(self._batcher.sizes)

    def answer(self, photos: Sequence[bytes], recorded: Sequence[int | None] | None = None) -> list[dict]:
        """Answers about photos (`mismatch.answer.answers_of`).

        Args:
            photos: (N,) bytes of JPEG or PNG files, N >= 1.
            recorded: (N,) recorded counts, None for a bin without.

        Raises:
            RowError: If a photo cannot be decoded.
            BincountError: If a photo waited too long, or the network fails.
        """
        probabilities = self._batcher.predict(photos)
        if not np.isfinite(probabilities).all():
            raise BincountError("network: its probabilities must be finite, got NaN. Register another version.")
        return answers_of(probabilities, self._counts, self._calibration, recorded)
