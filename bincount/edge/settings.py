"""Where things are on this machine: the only reader of the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bincount.core.drift import DriftLimits
from bincount.core.errors import ConfigError
from bincount.core.gate import Limits

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """Places and addresses that every step shares.

    Attributes:
        workspace: Folder of manifests, shards, features and runs.
        tracking_uri: MLflow's server, or an SQLite database where no server is named.
        tracking_page: MLflow's address for people, where it is another than for programs.
        artifacts: Folder of MLflow's artifacts where no server is named.
        buckets: Endpoint by bucket name, for buckets that are not on AWS.
        serving_url: Address of the running model server, None where none is named.
        serving_token: What the model server asks of its clients, None for nothing.
        gate: What a model must reach to become champion.
        drift: How far photos may be from those a model was judged on.
    """

    workspace: Path
    tracking_uri: str = field(repr=False)  # as the addresses below, it may hold a password
    artifacts: Path
    buckets: Mapping[str, str] = field(default_factory=dict, repr=False)
    serving_url: str | None = field(default=None, repr=False)
    serving_token: str | None = field(default=None, repr=False)
    gate: Limits = field(default_factory=Limits)
    drift: DriftLimits = field(default_factory=DriftLimits)
    tracking_page: str | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Reads MLFLOW_TRACKING_URI, and by name what begins with BINCOUNT_.

        Each has a default inside the checkout or is not needed.
        BINCOUNT_BUCKETS lists ``NAME=http://host:port`` separated by commas,
        BINCOUNT_GATE limits such as ``ece=0.03,groups=50`` (`core.gate.Limits`),
        BINCOUNT_DRIFT such as ``recorded=1`` (`core.drift.DriftLimits`).

        Raises:
            ConfigError: If BINCOUNT_BUCKETS, BINCOUNT_GATE or BINCOUNT_DRIFT has another form.
        """
        mlruns = CHECKOUT / "mlruns"
        return cls(
            workspace=Path(environ.get("BINCOUNT_WORKSPACE") or CHECKOUT / "data").absolute(),
            tracking_uri=environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{mlruns / 'mlflow.db'}",
            artifacts=mlruns / "artifacts",
            buckets=_parse_buckets(environ.get("BINCOUNT_BUCKETS", "")),
            serving_url=environ.get("BINCOUNT_SERVING_URL") or None,
            serving_token=environ.get("BINCOUNT_SERVING_TOKEN") or None,
            gate=Limits.parse(environ.get("BINCOUNT_GATE", "")),
            drift=DriftLimits.parse(environ.get("BINCOUNT_DRIFT", "")),
            tracking_page=environ.get("BINCOUNT_MLFLOW_URL") or None,
        )

    def environment(self) -> dict[str, str]:
        """The environment of a model server that shall work with this workspace, registry and token."""
        named = {
            "BINCOUNT_WORKSPACE": str(self.workspace),
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "BINCOUNT_SERVING_TOKEN": self.serving_token or "",
        }
        return {**os.environ, **named}

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
        """What counting found, in files that are only ever added."""
        return self.workspace / "outcomes"

    @property
    def records(self) -> Path:
        """Where the records that a DAG reconciles are laid; a form names a file here and nowhere else."""
        return self.workspace / "records"

    def run(self, run_id: str) -> Path:
        """The folder of one run's search, model and evaluation.

        Raises:
            ConfigError: If `run_id` is not an MLflow run's id.
        """
        if not (run_id.isalnum() and run_id.isascii()):
            raise ConfigError(f"run_id: must be letters and digits, got {run_id!r}. Take it from `bincount ingest`.")
        return self.workspace / "runs" / run_id


def without_passwords(text: str) -> str:
    """A text whose addresses name neither user nor password, to be shown.

    Example:
        >>> without_passwords("postgresql://ada:secret@db/mlflow does not answer")
        'postgresql://db/mlflow does not answer'
    """
    return re.sub(r"(?<=://)[^/\s'\"]*@", "", text)


def _parse_buckets(text: str) -> dict[str, str]:
    buckets = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, endpoint = entry.partition("=")
        if not name or not endpoint.startswith(("http://", "https://")):
            raise ConfigError(
                "BINCOUNT_BUCKETS: must list NAME=http://HOST:PORT separated by commas, "
                f"got {without_passwords(entry)!r}. Fix the entry."
            )
        buckets[name] = endpoint
    return buckets
