"""A version's model, warmed up: photos and records in, answers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

import bincount.serving
from bincount.errors import BincountError, RowError
from bincount.learn.predictor import Predictor
from bincount.mismatch.answer import History, answers_of
from bincount.mismatch.calibration import Calibration
from bincount.mismatch.change import NO_HEAD, OTHER_BIN, SAME_COUNT, ChangeHead
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
        self._change = ChangeHead.read(folder) if self._calibration else None
        # The code that a version carries runs from another place; the photo lies beside it.
        example = Path(bincount.serving.__file__).with_name("example.jpg").read_bytes()
        self._batcher = Batcher(partial(_observed, predictor), predictor.batches, example, timeout_s=timeout_s)

    @property
    def batches(self) -> Mapping[int, int]:
        """Number of batches by their number of photos, for metrics."""
        return dict(self._batcher.sizes)

    def answer(
        self,
        photos: Sequence[bytes],
        recorded: Sequence[int | None] | None = None,
        before: Sequence[tuple[bytes, int] | None] | None = None,
    ) -> list[dict]:
        """Answers about photos (`mismatch.answer.answers_of`).

        Args:
            photos: (N,) bytes of JPEG or PNG files, N >= 1.
            recorded: (N,) recorded counts, None for a bin without.
            before: (N,) an earlier photo of the bin and the count that was confirmed then, None for a bin without.

        Raises:
            RowError: If a photo cannot be decoded.
            BincountError: If a photo waited too long, or the network fails.
        """
        followed = [row for row, earlier in enumerate(before or ()) if earlier is not None]
        try:
            observed = self._batcher.predict([*photos, *(before[row][0] for row in followed)])  # type: ignore[index]
        except RowError as error:
            row = error.row if error.row < len(photos) else followed[error.row - len(photos)]
            raise RowError(row, error.message) from None
        probabilities, features = np.split(observed, [len(self._counts)], axis=1)
        if not np.isfinite(probabilities).all():
            raise BincountError("network: its probabilities must be finite, got NaN. Register another version.")
        if not followed:
            return answers_of(probabilities, self._counts, self._calibration, recorded)
        history: list[History | None] = [None] * len(photos)
        for number, row in enumerate(followed, len(photos)):
            counted = before[row][1]  # type: ignore[index]
            same = recorded is not None and recorded[row] == counted
            history[row] = self._history(features[[number]], features[[row]], counted, probabilities[[row]], same=same)
        joint = self._change.calibration(self._counts) if self._change else None
        return answers_of(probabilities[: len(photos)], self._counts, self._calibration, recorded, history, joint)

    def _history(
        self, earlier: np.ndarray, later: np.ndarray, counted: int, photo: np.ndarray, *, same: bool
    ) -> History:
        """What one earlier photo adds; all arrays have one row."""
        before = self._counts.index_of(counted)
        if self._change is None or self._calibration is None:
            return History(counted, None, NO_HEAD)
        if before is None:
            return History(counted, None, f"counted_before is none of the model's counts, {self._counts}")
        if same:
            return History(counted, None, SAME_COUNT)
        if self._change.far_apart(earlier, later)[0]:
            return History(counted, None, OTHER_BIN)
        return History(
            counted, self._change.joint(earlier, later, np.array([before]), photo, self._calibration.prior)[0]
        )


def _observed(predictor: Predictor, photos: Sequence[bytes]) -> np.ndarray:
    """(N, C + D) probabilities of photos, and their features where the network gives them."""
    return np.hstack(predictor.outputs(photos))
