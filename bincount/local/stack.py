"""The components of the one-machine stack: their commands, environment, ports and secrets.

All listen on 127.0.0.1. Airflow's API server, DAG processor, scheduler and triggerer
are components of their own, since `airflow standalone` listens on all addresses,
leaves processes behind and starts more than is needed.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bincount.errors import ConfigError
from bincount.local.supervisor import Component
from bincount.settings import CHECKOUT

HOST = "127.0.0.1"
USER = "admin"


@dataclass(frozen=True)
class Ports:
    """The port of each component on 127.0.0.1; the defaults are those of the flags."""

    airflow: int = 8080
    mlflow: int = 5000
    model: int = 5001
    bucket: int = 9000


PORT_FLAGS = {"airflow": "Airflow's", "mlflow": "MLflow's", "model": "the model server's", "bucket": "the bucket's"}
"""The components that have a flag `--<name>-port`, for help texts."""


def add_port_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for each port."""
    for name, owner in PORT_FLAGS.items():
        port = getattr(Ports(), name)
        help_text = f"{owner} port on {HOST} (default: {port})"
        parser.add_argument(f"--{name}-port", type=int, default=port, metavar="PORT", help=help_text)


@dataclass(frozen=True)
class Stack:
    """The components of one checkout's stack.

    Attributes:
        ports: Their ports.
        home: Airflow's home: database, logs, secrets.
        mlruns: Folder of MLflow's database and artifacts.
        workspace: Folder of the steps' data.
    """

    ports: Ports
    home: Path = CHECKOUT / ".airflow"
    mlruns: Path = CHECKOUT / "mlruns"
    workspace: Path = CHECKOUT / "data"

    @property
    def airflow_url(self) -> str:
        """Airflow's UI and API."""
        return f"http://{HOST}:{self.ports.airflow}"

    @property
    def mlflow_url(self) -> str:
        """MLflow's UI and API: the tracking URI."""
        return f"http://{HOST}:{self.ports.mlflow}"

    @property
    def model_url(self) -> str:
        """The model server."""
        return f"http://{HOST}:{self.ports.model}"

    @property
    def bucket_url(self) -> str:
        """The embedded S3 server."""
        return f"http://{HOST}:{self.ports.bucket}"

    def sample(self, folder: Path) -> Component:
        """The rendering of the sample bins; it ends by itself."""
        return Component(
            "sample", [sys.executable, "-m", "bincount.local.sample.render", f"--folder={folder}"], self._env()
        )

    def bucket(self, folder: Path, name: str) -> Component:
        """The embedded S3 server of a folder in the bucket's layout."""
        flags = [f"--folder={folder}", f"--port={self.ports.bucket}", f"--bucket={name}"]
        return Component("bucket", [sys.executable, "-m", "bincount.local.embedded_s3", *flags], self._env())

    def mlflow(self) -> Component:
        """MLflow's tracking server, with SQLite and a folder of artifacts."""
        flags = [
            f"--host={HOST}",
            f"--port={self.ports.mlflow}",
            "--workers=1",
            f"--backend-store-uri=sqlite:///{self.mlruns / 'mlflow.db'}",
            # Not through the server, so that artifacts can be read without it.
            f"--default-artifact-root={self.mlruns / 'artifacts'}",
            "--no-serve-artifacts",
        ]
        # Its job runner evaluates language models; its four processes would idle here.
        env = self._env() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        return Component("mlflow", [sys.executable, "-m", "mlflow", "server", *flags], env)

    def model_server(self) -> Component:
        """The model server, which serves the champion."""
        env = self._env() | {"MLFLOW_TRACKING_URI": self.mlflow_url}
        return Component("model-server", [sys.executable, "-m", "bincount", "serve", f"--port={self.ports.model}"], env)

    def airflow(self, *command: str, buckets: Mapping[str, str]) -> Component:
        """One of Airflow's own processes, such as its scheduler."""
        return Component(command[0], [sys.executable, "-m", "airflow", *command], self.airflow_env(buckets))

    def airflow_env(self, buckets: Mapping[str, str]) -> dict[str, str]:
        """The environment variables of Airflow's processes, and so of the tasks' steps.

        Args:
            buckets: Endpoint by name of each bucket that is not on AWS.
        """
        secret = self._secrets()
        settings = {
            "CORE__DAGS_FOLDER": str(CHECKOUT / "dags"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__EXECUTOR": "bincount.local.executor.DiskLogExecutor",
            "CORE__PARALLELISM": "2",  # as many workers are forked at the start, idle or not
            "CORE__HOSTNAME_CALLABLE": "platform.node",  # the default needs DNS
            "CORE__FERNET_KEY": secret["fernet"],
            "CORE__EXECUTION_API_SERVER_URL": f"{self.airflow_url}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._passwords),
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home / 'airflow.db'}",
            "API__HOST": HOST,
            "API__PORT": str(self.ports.airflow),
            "API__BASE_URL": self.airflow_url,
            "API__WORKERS": "1",
            "API__SECRET_KEY": secret["api"],
            "API_AUTH__JWT_SECRET": secret["jwt"],
            "DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "DAG_PROCESSOR__REFRESH_INTERVAL": "30",
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "2",  # s until a task that was marked failed or cleared is stopped
            # Training can slow the API server down on two cores; the task must not be killed for that.
            "WORKERS__EXECUTION_API_TIMEOUT": "60",
            "WORKERS__MAX_FAILED_HEARTBEATS": "20",
            "LOGGING__COLORED_CONSOLE_LOG": "False",
        }
        return {
            **self._env(),
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
            "AIRFLOW_HOME": str(self.home),
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "BINCOUNT_SERVING_URL": self.model_url,
            "BINCOUNT_BUCKETS": json.dumps(dict(buckets)),
        }

    def password(self) -> str:
        """The password of Airflow's one user, generated on first use."""
        return _read_or_create(self._passwords, lambda: {USER: secrets.token_urlsafe(12)})[USER]

    @property
    def _passwords(self) -> Path:
        return self.home / "passwords.json"

    def _secrets(self) -> dict[str, str]:
        def generate() -> dict[str, str]:
            fernet = base64.urlsafe_b64encode(os.urandom(32)).decode()
            return {"fernet": fernet, "api": secrets.token_urlsafe(64), "jwt": secrets.token_urlsafe(64)}

        return _read_or_create(self.home / "secrets.json", generate)

    def _env(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(CHECKOUT),  # tasks run this checkout, whatever is installed
            "PYTHONUNBUFFERED": "1",
            **{name: ",".join(filter(None, (os.environ.get(name), HOST))) for name in ("no_proxy", "NO_PROXY")},
            "BINCOUNT_WORKSPACE": str(self.workspace),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
        }


def _read_or_create(path: Path, generate: Callable[[], dict[str, str]]) -> dict[str, str]:
    """The content of a JSON file of mode 0600, generated if there is none."""
    if not path.exists():
        beside = path.with_name(f"{path.name}.new")
        beside.unlink(missing_ok=True)
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(generate(), file)
        beside.replace(path)
    return json.loads(path.read_text())


def is_free(port: int) -> bool:
    """True if a port of 127.0.0.1 is free."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def check_ports(flags: Mapping[str, int]) -> None:
    """Checks that all ports are different and free.

    Args:
        flags: Port by the flag that sets it.

    Raises:
        ConfigError: If one is out of range, used twice or taken; the message names the flag.
    """
    for flag, port in flags.items():
        if not 1 <= port <= 65_535:
            raise ConfigError(f"{flag}: must be a port from 1 to 65535, got {port}.")
        if list(flags.values()).count(port) > 1:
            twice = " and ".join(name for name, other in flags.items() if other == port)
            raise ConfigError(f"{twice}: must differ, got {port} for each.")
        if not is_free(port):
            raise ConfigError(f"{flag}: must be a free port of {HOST}, got {port}, which is taken.")
