"""A version's model, warmed up: photos and records in, answers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

import bincount.serving
from bincount.dataset.contents import Product
from bincount.errors import BincountError, RowError
from bincount.learn.predictor import Predictor
from bincount.mismatch.answer import Evidence, answers_of
from bincount.mismatch.calibration import Calibration
from bincount.mismatch.change import NO_HEAD, SAME_COUNT, ChangeHead
from bincount.mismatch.contents import NO_JUDGE, ContentsJudge, problem_of, weight_problem_of
from bincount.mismatch.sums import SumsHead
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
        self._change, self._sums, self._judge = (
            ChangeHead.read(folder),
            SumsHead.read(folder),
            ContentsJudge.read(folder),
        )
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
        contents: Sequence[tuple[Product, ...] | None] | None = None,
    ) -> list[dict]:
        """Answers about photos (`mismatch.answer.answers_of`).

        Args:
            photos: (N,) bytes of JPEG or PNG files, N >= 1.
            recorded: (N,) recorded counts, None for a bin without.
            before: (N,) an earlier photo of the bin and the count that was confirmed then, None for a bin without.
            contents: (N,) the products on each record, None for one without.

        Raises:
            RowError: If a photo cannot be decoded.
            BincountError: If a photo waited too long, or the network fails.
        """
        earlier = {row: one for row, one in enumerate(before or ()) if one is not None}
        listed = {row: one for row, one in enumerate(contents or ()) if one is not None}
        try:
            observed = self._batcher.predict([*photos, *(photo for photo, _ in earlier.values())])
        except RowError as error:
            row = error.row if error.row < len(photos) else list(earlier)[error.row - len(photos)]
            raise RowError(row, error.message) from None
        probabilities, features = np.split(observed, [len(self._counts)], axis=1)
        if not np.isfinite(probabilities).all():
            raise BincountError("network: its probabilities must be finite, got NaN. Register another version.")
        evidence: dict[int, Evidence] = {}
        for number, (row, (_, counted)) in enumerate(earlier.items(), len(photos)):
            same = recorded is not None and recorded[row] == counted
            ends = features[[number]], features[[row]]
            evidence[row] = self._follow(*ends, counted, probabilities[[row]], same=same)
        for row, products in listed.items():
            count = None if recorded is None else recorded[row]
            rows = probabilities[[row]], features[[row]]
            evidence[row] = self._read(products, count, *rows, evidence.get(row, _NOTHING))
        more = [evidence.get(row) for row in range(len(photos))] if evidence else None
        return answers_of(probabilities[: len(photos)], self._counts, self._calibration, recorded, more)

    def _follow(
        self, earlier: np.ndarray, later: np.ndarray, counted: int, photo: np.ndarray, *, same: bool
    ) -> Evidence:
        """Evidence of one earlier photo; all arrays have one row."""
        before = self._counts.index_of(counted)
        if self._change is None or self._calibration is None:
            problem = NO_HEAD
        elif before is None:
            problem = f"counted_before is none of the model's counts, {self._counts}"
        elif same and not self._change.knows_unchanged:
            problem = SAME_COUNT
        elif not (problem := self._change.problems_of(earlier, later)[0]):
            joint = self._change.joint(earlier, later, np.array([before]), photo, self._calibration.prior)[0]
            return Evidence(
                joint, self._change.calibration(self._counts), counted, None, self._change.knows_unchanged, {}
            )
        return _NOTHING._replace(problems={"before_problem": problem})

    def _read(
        self,
        products: tuple[Product, ...],
        recorded: int | None,
        photo: np.ndarray,
        features: np.ndarray,
        other: Evidence,
    ) -> Evidence:
        """Other evidence joined with the products of one record; all arrays have one row."""
        if self._judge is None or self._sums is None or self._calibration is None:
            problem = NO_JUDGE
        elif recorded is None:
            problem = "recorded must come with contents"
        else:
            problem = problem_of(products, recorded, self._counts)
        if problem or self._judge is None or self._sums is None or self._calibration is None or recorded is None:
            return other._replace(problems={**other.problems, "contents_problem": problem})
        prior, sums = self._calibration.prior, self._sums.predict(features)
        joint = self._judge.joint([products], photo, sums, prior, [other.distribution])[0]
        classes = np.array([self._counts.index_of(recorded)])
        missed = float(self._judge.missed_evidence([products], classes, photo, sums, prior)[0])
        weight_problem = weight_problem_of(products)
        problems = {**other.problems, **({"contents_problem": weight_problem} if weight_problem else {})}
        return Evidence(joint, self._judge.calibration, other.counted, missed, other.unchanged, problems)


_NOTHING = Evidence(None, None, None, None, False, {})


def _observed(predictor: Predictor, photos: Sequence[bytes]) -> np.ndarray:
    """(N, C + D) probabilities of photos, and their features where the network gives them."""
    return np.hstack(predictor.outputs(photos))
