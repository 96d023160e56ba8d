"""The stack of docker-compose.yml on a Docker engine, controlled through `docker compose`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bincount.errors import ConfigError, StoreError
from bincount.server.secrets import CHECKOUT, ENV_FILE

_LOG_LINES = 30
START_TIMEOUT_S = 600  # until all services are healthy; the first start takes 150 s on two busy cores


def engine_problem() -> str:
    """The reason why no stack can run here; "" if one can."""
    docker = shutil.which("docker")
    if docker is None:
        return "no docker on this machine"
    if subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        return "no Docker engine answers"
    return "" if has_compose() else "`docker compose` (Compose 2) is not installed"


def has_compose() -> bool:
    """True if this machine has Compose 2, which needs no engine to read its files."""
    docker = shutil.which("docker")
    return (
        docker is not None
        and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0
    )


@dataclass(frozen=True)
class Service:
    """A container of the stack.

    Attributes:
        name: Name of its service, such as "scheduler".
        container: Id of the container.
        state: running, exited, restarting ...
        health: healthy, unhealthy or starting; "" without a health check.
        exit_code: Exit code of its last end.
    """

    name: str
    container: str
    state: str
    health: str
    exit_code: int

    @property
    def ready(self) -> bool:
        """True if it is healthy, or has exited successfully."""
        return self.health == "healthy" if self.state == "running" else self.state == "exited" and self.exit_code == 0


@dataclass(frozen=True)
class Engine:
    """One stack: a project of Compose with its settings.

    Attributes:
        env_file: Secrets and settings.
        project: Compose's project name; the folder's name if empty.
        environ: Further environment variables of Compose, such as COMPOSE_FILE.
    """

    env_file: Path = ENV_FILE
    project: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)

    def compose(self, *arguments: str, timeout_s: float = 3600) -> str:
        """Runs Compose and returns its stdout.

        Raises:
            StoreError: If it fails or does not end in time.
        """
        command = ["docker", "compose", "--project-directory", str(CHECKOUT), "--env-file", str(self.env_file)]
        return self._run([*command, *arguments], timeout_s=timeout_s)

    def docker(self, *arguments: str, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None) -> str:
        """Runs docker and returns its stdout, or writes it to the file `stdout`.

        Raises:
            StoreError: If it fails.
        """
        return self._run(["docker", *arguments], stdin=stdin, stdout=stdout)

    def services(self) -> list[Service]:
        """The containers of the stack, running or not."""
        ids = self.compose("ps", "--all", "--quiet").split()
        # It fails for a container that Compose has replaced meanwhile, and still prints the others.
        entries = self._run(["docker", "inspect", *ids], check=False) if ids else ""
        services = [_service(entry) for entry in json.loads(entries or "[]")]
        return sorted(services, key=lambda service: service.name)

    def service(self, name: str) -> Service:
        """The one container of a service.

        Raises:
            ConfigError: If there is none.
        """
        for service in self.services():
            if service.name == name:
                return service
        raise ConfigError(f"{name}: must have a container, got none. Run make server-up.")

    def start(self, *services: str) -> None:
        """Starts services, all if none is named, and waits until they are healthy or have exited successfully.

        Raises:
            StoreError: If one is not ready in time; the message holds its last log lines.
        """
        try:
            self.compose("up", "--detach", "--wait", f"--wait-timeout={START_TIMEOUT_S}", *services)
        except StoreError as error:
            logs = "\n".join(self._log_of(service) for service in self.services() if not service.ready)
            raise StoreError(f"{error}\n{logs}") from error

    def _log_of(self, service: Service) -> str:
        command = ["docker", "logs", "--tail", str(_LOG_LINES), service.container]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return f"--- {service.name} ({service.state}, {service.health})\n{done.stdout}{done.stderr}"

    def _run(self, command: Sequence[str], *, check: bool = True, timeout_s: float = 3600, **files: Any) -> str:
        named = {"COMPOSE_PROJECT_NAME": self.project} if self.project else {}
        output = files.pop("stdout", None) or subprocess.PIPE
        try:
            done = subprocess.run(
                command,
                env={**os.environ, **named, **self.environ},
                cwd=CHECKOUT,
                stdout=output,
                stderr=subprocess.PIPE,
                timeout=timeout_s,
                check=False,
                **files,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StoreError(f"{command[0]}: must run and end, got {error}.") from error
        if check and done.returncode:
            message = done.stderr.decode(errors="replace").strip()[-2000:]
            raise StoreError(f"{' '.join(command[:2])} ... {' '.join(command[-3:])}: must succeed, got {message}")
        return (done.stdout or b"").decode(errors="replace")


def _service(entry: Mapping[str, Any]) -> Service:
    state = entry["State"]
    labels = entry["Config"]["Labels"]
    return Service(
        name=labels["com.docker.compose.service"],
        container=entry["Id"][:12],
        state=state["Status"],
        health=state.get("Health", {}).get("Status", ""),
        exit_code=state["ExitCode"],
    )
