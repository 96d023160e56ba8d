"""The registered model "bincount": its versions and the aliases that name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bincount.core.errors import ConfigError, DataError
from bincount.edge.mlflow_door import door
from bincount.edge.settings import Settings, without_passwords

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MODEL = "bincount"
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"

ARTIFACT = "model"


@dataclass(frozen=True)
class Version:
    """A registered version: its number, the run that made it, its tags and description."""

    version: str
    run_id: str
    tags: Mapping[str, str]
    description: str


def version_of(settings: Settings, version: str) -> Version:
    """Looks a version up by its number.

    Raises:
        ConfigError: If there is no such version.
    """
    with door(settings, f"version {version!r} of {MODEL}") as client:
        return _version(client.get_model_version(MODEL, version))


def versions_of_run(settings: Settings, run_id: str) -> list[Version]:
    """The versions that a run made, newest first."""
    with door(settings, f"versions of run {run_id}") as client:
        found = client.search_model_versions(f"name = '{MODEL}' and run_id = '{run_id}'")
        return sorted(map(_version, found), key=lambda version: -int(version.version))


def alias(settings: Settings, name: str) -> str | None:
    """The version an alias such as "champion" names now, None where it names none."""
    with door(settings, f"alias {name!r} of {MODEL}") as client:
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
    with door(settings, f"challenger {version} of {MODEL}") as client:
        client.set_registered_model_alias(MODEL, CHALLENGER, version)


def describe(settings: Settings, version: str, *, tags: Mapping[str, str], description: str | None = None) -> None:
    """Writes tags on a version, and a new description where one is given."""
    with door(settings, f"describe version {version} of {MODEL}") as client:
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
    with door(settings, f"version {version} of {MODEL}") as client:
        place = f"{client.get_model_version_download_uri(MODEL, version)}/artifacts/{ARTIFACT}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with door(settings, f"download version {version} of {MODEL}", upload=True):
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
