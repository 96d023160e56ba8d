"""Settings of this machine and its operator: paths, addresses, tokens and limits, read from environment variables.

What a user chooses for each step, on the command line or in a DAG's form, is in `config.py`. Only this module reads
these variables.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bincount.config import DecayLimits, DriftLimits, GateLimits
from bincount.errors import ConfigError
from bincount.files import digest_of
from bincount.schema import read_object, read_schema

CHECKOUT = Path(__file__).resolve().parents[1]
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _operator(env: str, help: str) -> dict[str, Any]:
    return {"setting": {"env": env, "help": help}}


@dataclass(frozen=True)
class Settings:
    """Places, addresses and limits that every step shares; each is one environment variable.

    Addresses may hold a password, so `repr` leaves them out.
    """

    workspace: Path = field(
        metadata=_operator(
            "BINCOUNT_WORKSPACE",
            "folder of manifests, shards, features and runs, `data` if unset; or `s3://BUCKET/PREFIX`",
        )
    )
    tracking_uri: str = field(
        repr=False,
        metadata=_operator("MLFLOW_TRACKING_URI", "MLflow's tracking server; an SQLite database in `mlruns` if unset"),
    )
    artifacts: Path  # of MLflow where no server is named
    remote: str | None = None  # s3://BUCKET/PREFIX that has the workspace; the folder is a cache of it then
    cache: Path = field(
        default=Path(),
        metadata=_operator(
            "BINCOUNT_CACHE", "folder for this machine's copy of a workspace in a bucket; `~/.cache/bincount` if unset"
        ),
    )
    cache_gb: float = field(
        default=50.0,
        metadata=_operator(
            "BINCOUNT_CACHE_GB", "how large that copy may be in GB, 50 if unset; the least recently used files go first"
        ),
    )
    buckets: Mapping[str, str] = field(
        default_factory=dict,
        repr=False,
        metadata=_operator(
            "BINCOUNT_BUCKETS",
            'address of the server of each bucket that is not on AWS: `{"BUCKET": "http://HOST:PORT"}`',
        ),
    )
    serving_url: str | None = field(
        default=None,
        repr=False,
        metadata=_operator("BINCOUNT_SERVING_URL", "address of the running model server, which `verify-serving` asks"),
    )
    serving_token: str | None = field(
        default=None,
        repr=False,
        metadata=_operator("BINCOUNT_SERVING_TOKEN", "token that the model server asks of its clients"),
    )
    gate: GateLimits = field(
        default_factory=GateLimits,
        metadata=_operator("BINCOUNT_GATE", 'the gate\'s limits, see below: `{"ece": 0.03, "groups": 50}`'),
    )
    drift: DriftLimits = field(
        default_factory=DriftLimits,
        metadata=_operator("BINCOUNT_DRIFT", 'the drift limits, see below: `{"recorded": 1}`'),
    )
    decay: DecayLimits = field(
        default_factory=DecayLimits,
        metadata=_operator("BINCOUNT_DECAY", 'the limits of outcomes, see below: `{"brier": 0.001}`'),
    )
    mlflow_url: str | None = field(
        default=None,
        metadata=_operator("BINCOUNT_MLFLOW_URL", "MLflow's address for people, where programs use another"),
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Reads the environment variables; each has a default inside the checkout or may be unset.

        Raises:
            ConfigError: If BINCOUNT_BUCKETS, BINCOUNT_GATE, BINCOUNT_DRIFT or BINCOUNT_DECAY is not the JSON object
                that it should be.
        """
        mlruns = CHECKOUT / "mlruns"
        workspace = environ.get("BINCOUNT_WORKSPACE") or str(CHECKOUT / "data")
        remote = workspace.rstrip("/") if workspace.startswith("s3://") else None
        cache = Path()
        if remote:
            cache = Path(environ.get("BINCOUNT_CACHE") or Path.home() / ".cache" / "bincount").absolute()
        return cls(
            workspace=cache / digest_of(remote) if remote else Path(workspace).absolute(),
            remote=remote,
            cache=cache,
            cache_gb=_gigabytes(environ.get("BINCOUNT_CACHE_GB") or "50"),
            tracking_uri=environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{mlruns / 'mlflow.db'}",
            artifacts=mlruns / "artifacts",
            buckets=read_endpoints(environ.get("BINCOUNT_BUCKETS", ""), "BINCOUNT_BUCKETS"),
            serving_url=environ.get("BINCOUNT_SERVING_URL") or None,
            serving_token=environ.get("BINCOUNT_SERVING_TOKEN") or None,
            gate=read_schema(environ.get("BINCOUNT_GATE", ""), GateLimits, "BINCOUNT_GATE"),
            drift=read_schema(environ.get("BINCOUNT_DRIFT", ""), DriftLimits, "BINCOUNT_DRIFT"),
            decay=read_schema(environ.get("BINCOUNT_DECAY", ""), DecayLimits, "BINCOUNT_DECAY"),
            mlflow_url=environ.get("BINCOUNT_MLFLOW_URL") or None,
        )

    def environment(self) -> dict[str, str]:
        """The environment of a model server that shall work with this workspace, registry and token."""
        named = {
            "BINCOUNT_WORKSPACE": self.remote or str(self.workspace),
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "BINCOUNT_SERVING_TOKEN": self.serving_token or "",
        }
        return {**os.environ, **named}

    def need_folder(self, command: str) -> None:
        """Checks that the workspace is a folder of this machine.

        Raises:
            ConfigError: If it is in a bucket.
        """
        if self.remote:
            raise ConfigError(f"{command}: BINCOUNT_WORKSPACE must be a folder of this machine, got {self.remote!r}.")

    @property
    def manifests(self) -> Path:
        """Manifests, each named by its digest."""
        return self.workspace / "manifests"

    @property
    def shards(self) -> Path:
        """Photos in TFRecord files."""
        return self.workspace / "shards"

    @property
    def ingests(self) -> Path:
        """Work in progress of ingests, one folder a request."""
        return self.workspace / "ingests"

    @property
    def features(self) -> Path:
        """Backbone features, each set named by what made it."""
        return self.workspace / "features"

    @property
    def reconciles(self) -> Path:
        """Reconciliations under way, one file a request."""
        return self.workspace / "reconciles"

    @property
    def outcomes(self) -> Path:
        """The folder of outcomes, in files that are only ever added."""
        return self.workspace / "outcomes"

    @property
    def records(self) -> Path:
        """The folder of the records that a DAG reconciles; a form names a file here and nowhere else."""
        return self.workspace / "records"

    def records_file(self, name: str, setting: str) -> Path:
        """The file of that name among `records`.

        Args:
            name: Its name; no path leads out of the folder.
            setting: Which setting named it, for the message.

        Raises:
            ConfigError: If there is no such file.
        """
        path = self.records / name
        if not _FILE_NAME.fullmatch(name) or not path.is_file():
            files = sorted(each.name for each in self.records.glob("*") if each.is_file())[:10]
            raise ConfigError(
                f"{setting}: must name a file in the workspace's folder records, got {name!r}; available: "
                f"{', '.join(files) or 'none'}. Copy it there."
            )
        return path

    @property
    def runs(self) -> Path:
        """The folder of the runs' own folders."""
        return self.workspace / "runs"

    def run(self, run_id: str) -> Path:
        """The folder of one run's search, model and evaluation.

        Raises:
            ConfigError: If `run_id` is not an MLflow run's id.
        """
        if not (run_id.isalnum() and run_id.isascii()):
            raise ConfigError(f"run_id: must be letters and digits, got {run_id!r}. Take it from `bincount ingest`.")
        return self.runs / run_id


def _gigabytes(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise ConfigError(f"BINCOUNT_CACHE_GB: must be a number > 0, got {text!r}.")


def without_passwords(text: str) -> str:
    """A text whose addresses name neither user nor password, to be shown.

    Example:
        >>> without_passwords("postgresql://ada:secret@db/mlflow does not answer")
        'postgresql://db/mlflow does not answer'
    """
    return re.sub(r"(?<=://)[^/\s'\"]*@", "", text)


def read_endpoints(text: str, where: str) -> Mapping[str, str]:
    """Reads a JSON object of the server's address by bucket.

    Raises:
        ConfigError: If it is something else; the message shows no password.
    """
    found = read_object(text, where)
    for bucket, endpoint in found.items():
        if not bucket or not isinstance(endpoint, str) or not endpoint.startswith(("http://", "https://")):
            raise ConfigError(
                f'{where}: must be such as {{"BUCKET": "http://HOST:PORT"}}, got another value of {bucket!r}.'
            )
    return found
