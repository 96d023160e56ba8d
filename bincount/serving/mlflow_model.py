"""The model that MLflow loads (`mlflow models serve`, `mlflow.pyfunc.load_model`): photos in, counts out.

MLflow copies this file into each registered version and runs it there
("models from code"): nothing is pickled.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import logging
from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from bincount.dataset.contents import Product, products_of
from bincount.errors import DataError
from bincount.mismatch.verdicts import count_of

_log = logging.getLogger(__name__)

_SEND = 'Send {"dataframe_split": {"columns": ["image"], "data": [["<base64 of a JPEG or PNG>"]]}}.'


class MlflowModel(PythonModel):
    """Counts the items on photos: one answer a row of the column `image`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Opens the artifact `model` once."""
        from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT

        from bincount.serving.bin_counter import BinCounter

        timeout_s = MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get()  # after it MLflow has answered 504
        self._counter = BinCounter(Path(context.artifacts["model"]), timeout_s=timeout_s)

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: dict | None = None) -> list[dict]:
        """Answers each row (`mismatch.answer.answers_of`).

        Args:
            context: Unused; MLflow passes it.
            model_input: (N,) rows with the bytes of a JPEG or PNG in `image`,
                and, for a verdict, the recorded count in `recorded`; an earlier photo of the bin may be in `before`,
                as bytes or in base64, with the count that was confirmed then in `counted_before`, and the products
                on the record in `contents`, as objects or as JSON.
            params: None are defined.

        Raises:
            MlflowException: If there is no row, a photo cannot be read or a
                record is no count (HTTP 400, naming the row), or if counting itself failed (HTTP 500).
        """
        try:
            if not len(model_input):
                raise DataError(f"request: must hold at least one row, got none. {_SEND}")
            photos = [photo for photo in _photos_of(model_input, "image") if photo is not None]
            before = _photos_of(model_input, "before")
            history = _history_of(before, _counts_of(model_input, "counted_before"))
            recorded, contents = _counts_of(model_input, "recorded"), _contents_of(model_input)
            return self._counter.answer(photos, recorded, history, contents)
        except DataError as error:
            raise Refusal(str(error), INVALID_PARAMETER_VALUE) from None
        except Exception:
            # Anything but an MlflowException would be answered with its stack trace.
            _log.exception("counting failed")
            raise Refusal("server: counting must succeed, got an error. See its log.", INTERNAL_ERROR) from None


class Refusal(MlflowException):
    """An error whose answer is its own message and nothing else.

    MLflow's server puts the request's data before the message; photos do not belong in an answer.
    """

    def serialize_as_json(self) -> str:
        """The answer's body."""
        return json.dumps({"error_code": self.error_code, "message": self.args[0]})


def _photos_of(model_input: pd.DataFrame, column: str) -> list[bytes | None]:
    if column not in model_input.columns:
        return [None] * len(model_input)
    return [_photo(row, value, column) for row, value in enumerate(model_input[column].tolist())]


def _photo(row: int, value: object, column: str) -> bytes | None:
    """A photo's bytes. MLflow decodes the base64 of `image`; it cannot where a value may be missing."""
    if isinstance(value, bytes):
        return value
    if column == "before" and (value is None or value is pd.NA or value != value):
        return None
    if column == "before" and isinstance(value, str):
        with contextlib.suppress(ValueError):
            return binascii.a2b_base64(value)
    raise DataError(f"row {row}: {column} must be a photo's bytes, got {type(value).__name__}. {_SEND}")


def _counts_of(model_input: pd.DataFrame, column: str) -> list[int | None]:
    if column not in model_input.columns:
        return [None] * len(model_input)
    counts: list[int | None] = []
    for row, value in enumerate(model_input[column].tolist()):
        try:
            counts.append(count_of(None if value is pd.NA else value, column))
        except DataError as error:
            raise DataError(f"row {row}: {error}") from None
    return counts


def _contents_of(model_input: pd.DataFrame) -> list[tuple[Product, ...] | None]:
    if "contents" not in model_input.columns:
        return [None] * len(model_input)
    contents: list[tuple[Product, ...] | None] = []
    for row, value in enumerate(model_input["contents"].tolist()):
        try:
            contents.append(products_of(None if value is pd.NA else value))
        except DataError as error:
            raise DataError(f"row {row}: {error}") from None
    return contents


def _history_of(before: list[bytes | None], counted: list[int | None]) -> list[tuple[bytes, int] | None]:
    history: list[tuple[bytes, int] | None] = []
    for row, (photo, count) in enumerate(zip(before, counted, strict=True)):
        if (photo is None) != (count is None):
            missing, there = ("before", "counted_before") if photo is None else ("counted_before", "before")
            raise DataError(f"row {row}: {there} must come with {missing}, got it alone. Send both, or neither.")
        history.append(None if photo is None or count is None else (photo, count))
    return history


set_model(MlflowModel())
