"""The model that MLflow loads (`mlflow models serve`, `mlflow.pyfunc.load_model`): photos in, counts out.

MLflow copies this file into each registered version and runs it there
("models from code"): nothing is pickled.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from bincount.errors import DataError
from bincount.mismatch.verdicts import recorded_of

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
                and, for a verdict, the recorded count in `recorded`.
            params: None are defined.

        Raises:
            MlflowException: If there is no row, a photo cannot be read or a
                record is no count (HTTP 400, naming the row), or if counting itself failed (HTTP 500).
        """
        try:
            return self._counter.answer(_photos_of(model_input), _recorded_of(model_input))
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


def _photos_of(model_input: pd.DataFrame) -> list[bytes]:
    photos = model_input["image"].tolist()
    if not photos:
        raise DataError(f"request: must hold at least one row, got none. {_SEND}")
    for row, photo in enumerate(photos):
        if not isinstance(photo, bytes):
            raise DataError(f"row {row}: image must be a photo's bytes, got {type(photo).__name__}. {_SEND}")
    return photos


def _recorded_of(model_input: pd.DataFrame) -> list[int | None] | None:
    if "recorded" not in model_input.columns:
        return None
    recorded: list[int | None] = []
    for row, value in enumerate(model_input["recorded"].tolist()):
        try:
            recorded.append(recorded_of(None if value is pd.NA else value))
        except DataError as error:
            raise DataError(f"row {row}: {error}") from None
    return recorded


set_model(MlflowModel())
