"""The registered model "bincount": its versions and the aliases that name them."""

from __future__ import annotations

import base64
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bincount.errors import ConfigError, DataError
from bincount.settings import Settings, without_passwords
from bincount.tracking.client import mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

MODEL = "bincount"
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"

ARTIFACT = "model"
DATASET = "bins"
"""The dataset of every run, by name; its digest is the manifest's."""
LOGGED_MODEL = "bincount.logged_model"
"""The tag of a version that names its logged model: MLflow's server does not return a version's `model_id`."""
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Version:
    """A registered version: its number, the run that made it, its tags and description."""

    version: str
    run_id: str
    tags: Mapping[str, str]
    description: str


def version_of(settings: Settings, version: str) -> Version:
    """A version, by its number.

    Raises:
        ConfigError: If there is no such version.
    """
    with mlflow_client(settings, f"version {version!r} of {MODEL}") as client:
        return _version(client.get_model_version(MODEL, version))


def versions_of_run(settings: Settings, run_id: str) -> list[Version]:
    """The versions that a run made, newest first."""
    with mlflow_client(settings, f"versions of run {run_id}") as client:
        found = client.search_model_versions(f"name = '{MODEL}' and run_id = '{run_id}'")
        return sorted(map(_version, found), key=lambda version: -int(version.version))


def alias(settings: Settings, name: str) -> str | None:
    """The version an alias such as "champion" names now, None where it names none."""
    with mlflow_client(settings, f"alias {name!r} of {MODEL}") as client:
        return alias_of(client, name)


def version_named(settings: Settings, uri: str) -> str:
    """The version that "models:/bincount/3" or "models:/bincount@champion" names now.

    Raises:
        ConfigError: If `uri` has another form, or names no version.
    """
    match = re.fullmatch(rf"models:/{MODEL}(?:/([0-9]+)|@([A-Za-z0-9_-]+))", uri)
    if match is None:
        raise ConfigError(
            f"model: must be models:/{MODEL}/VERSION or models:/{MODEL}@ALIAS, got {uri!r}. "
            f"Try models:/{MODEL}@champion."
        )
    version = match[1] or alias(settings, match[2])
    if version is None:
        raise ConfigError(f"model: {uri} must name a version, got none. Promote one, or name a version by its number.")
    return version


def set_challenger(settings: Settings, version: str) -> None:
    """Names a version as the one that wants the champion's place."""
    with mlflow_client(settings, f"challenger {version} of {MODEL}") as client:
        client.set_registered_model_alias(MODEL, CHALLENGER, version)


def describe(settings: Settings, version: str, *, tags: Mapping[str, str], description: str | None = None) -> None:
    """Writes tags on a version, and a new description where one is given."""
    with mlflow_client(settings, f"describe version {version} of {MODEL}") as client:
        for key, value in tags.items():
            client.set_model_version_tag(MODEL, version, key, str(value))
        if description is not None:
            client.update_model_version(MODEL, version, description=description)


def fetch_model(settings: Settings, version: str, folder: Path) -> Path:
    """Downloads the model folder that a version was registered with.

    Returns:
        Its path below `folder`.

    Raises:
        ConfigError: If there is no such version.
        DataError: If its files are gone.
        StoreError: If the tracking server does not answer.
    """
    with mlflow_client(settings, f"version {version} of {MODEL}") as client:
        place = f"{client.get_model_version_download_uri(MODEL, version)}/artifacts/{ARTIFACT}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with mlflow_client(settings, f"download version {version} of {MODEL}", upload=True):
            from mlflow.artifacts import download_artifacts

            return Path(
                download_artifacts(artifact_uri=place, dst_path=str(folder), tracking_uri=settings.tracking_uri)
            )
    except ConfigError as error:
        raise DataError(
            f"version {version} of {MODEL}: its files must be where the registry says, got none at "
            f"{without_passwords(place)}. Restore MLflow's artifacts, or promote another version."
        ) from error


def alias_of(client: MlflowClient, name: str) -> str | None:
    """`alias`, where a client is lent already."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(MODEL, name).version)
    except MlflowException as error:
        # An unknown alias is "invalid", an unknown model "does not exist".
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def _version(found: ModelVersion) -> Version:
    if not found.run_id:
        raise ConfigError(f"version {found.version} of {MODEL}: must have a run, got none. Register it with bincount.")
    return Version(str(found.version), found.run_id, dict(found.tags), found.description or "")


@dataclass(frozen=True)
class Package:
    """The content of a version.

    Attributes:
        code: The file MLflow runs to load it, which calls `set_model`.
        model: Folder of the model, given to that code as the artifact "model".
        requirements: Pinned distributions it needs, such as "keras==3.15.1".
        example: A photo's bytes, kept with it as an example of its input.
        metadata: JSON-ready facts written into its MLmodel file.
        config: What its code finds as `context.model_config`.
        modules: Files of this package that the version carries, such as "learn/engine.py", so that it loads where
            bincount is not installed. Where bincount is imported already, that copy is used.
        params: How it was made, by name, for MLflow to compare versions by.
        metrics: What it reached on test bins, by name.
        dataset: Digest of the manifest, which `runs.log_dataset` logged: the metrics are of its bins.
    """

    code: Path
    model: Path
    requirements: Sequence[str]
    example: bytes
    metadata: Mapping[str, object]
    config: Mapping[str, object] = field(default_factory=dict)
    modules: Sequence[str] = ()
    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    dataset: str | None = None


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
    with mlflow_client(settings, f"register run {run_id}", upload=True) as client:
        from mlflow.entities import LoggedModelOutput, Metric

        experiment_id = client.get_run(run_id).info.experiment_id
        params = {name: str(value) for name, value in package.params.items()}
        logged = client.create_logged_model(experiment_id, name=MODEL, source_run_id=run_id, params=params)
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        with tempfile.TemporaryDirectory() as folder:
            packed, carried = Path(folder) / ARTIFACT, Path(folder) / "bincount"
            for module in package.modules:
                (carried / module).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(_PACKAGE / module, carried / module)
            code_paths = [str(carried)] if package.modules else None
            _pack(packed, package, code_paths, run_id, logged.model_id, logged.artifact_location)
            client.log_model_artifacts(logged.model_id, str(packed))
        client.finalize_logged_model(logged.model_id, "READY")
        of_model = {"model_id": logged.model_id, "dataset_name": DATASET, "dataset_digest": package.dataset}
        now_ms = int(time.time() * 1000)
        client.log_batch(
            run_id, [Metric(name, value, now_ms, 0, **of_model) for name, value in package.metrics.items()]
        )
        _create_model(client)
        made = client.create_model_version(
            MODEL,
            # Not "models:/ID": a database store looks that up at the process's global tracking address.
            source=logged.artifact_location,
            run_id=run_id,
            model_id=logged.model_id,
            tags={**{key: str(value) for key, value in tags.items()}, LOGGED_MODEL: logged.model_id},
            description=description,
        )
        return str(made.version)


def _pack(folder: Path, package: Package, code_paths: list[str] | None, run_id: str, model_id: str, place: str) -> None:
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
        code_paths=code_paths,
        artifacts={ARTIFACT: str(package.model)},
        pip_requirements=list(package.requirements),
        signature=signature,
        input_example=infer_and_parse_data(request, signature.inputs),
        metadata=dict(package.metadata),
        model_config=dict(package.config) or None,
        mlflow_model=Model(artifact_path=place, model_uuid=model_id, run_id=run_id, model_id=model_id),
    )


_OPTIONAL = ("recorded", "before", "counted_before", "contents")


def _signature() -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType, Map

    return ModelSignature(
        # MLflow's `long` refuses null and makes 2 of 2.5: the model itself looks at what is recorded.
        inputs=Schema(
            [
                ColSpec(DataType.binary, "image"),
                *(ColSpec(AnyType(), name, required=False) for name in _OPTIONAL),
            ]
        ),
        outputs=Schema(
            [
                ColSpec(DataType.long, "count"),
                ColSpec(DataType.double, "confidence"),
                ColSpec(Map(DataType.double), "probabilities"),
                *(ColSpec(DataType.long, name, required=False) for name in ("low", "high")),
                ColSpec(DataType.double, "mismatch_probability", required=False),
                *(ColSpec(DataType.string, name, required=False) for name in ("direction", "verdict")),
                ColSpec(DataType.long, "change", required=False),
                ColSpec(Map(DataType.double), "change_probabilities", required=False),
                *(ColSpec(DataType.string, name, required=False) for name in ("before_problem", "contents_problem")),
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
