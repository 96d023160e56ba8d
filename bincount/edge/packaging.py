"""A model on its way into the registry: packed, uploaded, then made a version."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bincount.edge.mlflow_door import door
from bincount.edge.registry import ARTIFACT, MODEL
from bincount.edge.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature


@dataclass(frozen=True)
class Package:
    """What a version is made of.

    Attributes:
        code: The file MLflow runs to load it, which calls `set_model`.
        model: Folder of the model, given to that code as the artifact "model".
        requirements: Pinned distributions it needs, such as "keras==3.15.1".
        example: A photo's bytes, kept with it as an example of its input.
        metadata: JSON-ready facts written into its MLmodel file.
        config: What its code finds as `context.model_config`.
    """

    code: Path
    model: Path
    requirements: Sequence[str]
    example: bytes
    metadata: Mapping[str, object]
    config: Mapping[str, object] = field(default_factory=dict)


def register(settings: Settings, run_id: str, package: Package, tags: Mapping[str, str], description: str) -> str:
    """Uploads a model and registers it as a new version of "bincount".

    Nothing is registered before all of it is uploaded.

    Args:
        settings: Names the tracking server.
        run_id: The run that made the model.
        package: What to upload.
        tags: What to know of the version.
        description: Markdown shown on its page.

    Returns:
        The version, such as "3".

    Raises:
        ConfigError: If MLflow refuses the model.
        StoreError: If the tracking server does not answer.
    """
    with door(settings, f"register run {run_id}", upload=True) as client:
        from mlflow.entities import LoggedModelOutput

        experiment_id = client.get_run(run_id).info.experiment_id
        logged = client.create_logged_model(experiment_id, name=MODEL, source_run_id=run_id)
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        with tempfile.TemporaryDirectory() as folder:
            packed = Path(folder) / ARTIFACT
            _pack(packed, package, run_id, logged.model_id, logged.artifact_location)
            client.log_model_artifacts(logged.model_id, str(packed))
        client.finalize_logged_model(logged.model_id, "READY")
        _create_model(client)
        made = client.create_model_version(
            MODEL,
            # Not "models:/ID": a database store looks that up at the process's global tracking address.
            source=logged.artifact_location,
            run_id=run_id,
            model_id=logged.model_id,
            tags={key: str(value) for key, value in tags.items()},
            description=description,
        )
        return str(made.version)


def _pack(folder: Path, package: Package, run_id: str, model_id: str, place: str) -> None:
    """Writes the folder that MLflow serves.

    `mlflow.pyfunc.log_model` would do it too, but on the process's global tracking address.
    """
    from mlflow.models import Model
    from mlflow.pyfunc import save_model
    from mlflow.pyfunc.scoring_server import infer_and_parse_data

    signature = _signature()
    # The request that the README shows, read as the server reads it.
    request = {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(package.example).decode()]]}}
    save_model(
        path=str(folder),
        python_model=str(package.code),
        artifacts={ARTIFACT: str(package.model)},
        pip_requirements=list(package.requirements),
        signature=signature,
        input_example=infer_and_parse_data(request, signature.inputs),
        metadata=dict(package.metadata),
        model_config=dict(package.config) or None,
        mlflow_model=Model(artifact_path=place, model_uuid=model_id, run_id=run_id, model_id=model_id),
    )


def _signature() -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType, Map

    return ModelSignature(
        # MLflow's `long` refuses null and makes 2 of 2.5: the model itself looks at what is recorded.
        inputs=Schema([ColSpec(DataType.binary, "image"), ColSpec(AnyType(), "recorded", required=False)]),
        outputs=Schema(
            [
                ColSpec(DataType.long, "count"),
                ColSpec(DataType.double, "confidence"),
                ColSpec(Map(DataType.double), "probabilities"),
                *(ColSpec(DataType.long, name, required=False) for name in ("low", "high")),
                ColSpec(DataType.double, "mismatch_probability", required=False),
                *(ColSpec(DataType.string, name, required=False) for name in ("direction", "verdict")),
            ]
        ),
    )


def _create_model(client: MlflowClient) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(MODEL, description="Counts the items in a warehouse bin from one photo.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
