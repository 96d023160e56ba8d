"""The stack of docker-compose.yml on a Docker engine, asked through `docker compose` or Compose 1.29."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bincount.errors import ConfigError, StoreError
from bincount.server.secrets import CHECKOUT, ENV_FILE

_LOG_LINES = 30
_READY_S = 600  # most seconds until all services are healthy; on two busy cores the first start takes 150


def engine_problem() -> str:
    """Why no stack can run here, "" where one can."""
    docker = shutil.which("docker")
    if docker is None:
        return "no docker on this machine"
    if subprocess.run([docker, "info"], capture_output=True, check=False).returncode:
        return "no Docker engine answers"
    return "" if compose_command() else "neither `docker compose` nor docker-compose is installed"


def compose_command() -> list[str]:
    """Compose as this machine has it, empty if it has none."""
    docker, alone = shutil.which("docker"), shutil.which("docker-compose")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        return [docker, "compose"]
    return [alone] if alone else []


@dataclass(frozen=True)
class Service:
    """A container of the stack.

    Attributes:
        name: Of its service, such as "scheduler".
        container: Its id.
        state: Docker's word: running, exited, restarting ...
        health: healthy, unhealthy or starting; "" without a health check.
        exit_code: Of its last end.
    """

    name: str
    container: str
    state: str
    health: str
    exit_code: int

    @property
    def ready(self) -> bool:
        """Whether it does what it is there for, or has done it."""
        return self.health == "healthy" if self.state == "running" else self.state == "exited" and self.exit_code == 0


@dataclass(frozen=True)
class Engine:
    """One stack: a project of Compose with its settings.

    Attributes:
        env_file: Secrets and settings.
        project: Compose's name for it, by which containers and volumes are told from others'; its default if empty.
        environ: What Compose finds in its environment besides, such as COMPOSE_FILE.
    """

    env_file: Path = ENV_FILE
    project: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)

    def compose(self, *arguments: str, timeout_s: float = 3600) -> str:
        """Runs Compose and gives what it printed on stdout.

        Raises:
            StoreError: If it ends with an error, or not in time.
        """
        command = [*compose_command(), "--project-directory", str(CHECKOUT), "--env-file", str(self.env_file)]
        return self._run([*command, *arguments], timeout_s=timeout_s)

    def docker(self, *arguments: str, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None) -> str:
        """Runs docker; with `stdout` its output goes there and nothing is given back.

        Raises:
            StoreError: If it ends with an error.
        """
        return self._run(["docker", *arguments], stdin=stdin, stdout=stdout)

    def services(self) -> list[Service]:
        """The containers of the stack, running or not."""
        ids = self.compose("ps", "--all", "--quiet").split()
        # One that Compose replaces meanwhile is named on stderr; the others are still told.
        told = self._run(["docker", "inspect", *ids], check=False) if ids else ""
        found = [_service(entry) for entry in json.loads(told or "[]")]
        return sorted(found, key=lambda service: service.name)

    def service(self, name: str) -> Service:
        """The one container of a service.

        Raises:
            ConfigError: If there is none.
        """
        for service in self.services():
            if service.name == name:
                return service
        raise ConfigError(f"{name}: must have a container, got none. Run make server-up.")

    def wait_ready(self, wanted: Sequence[str] = ()) -> float:
        """Waits until services are healthy or have done their work.

        Args:
            wanted: Their names; all if empty.

        Returns:
            The seconds it took.

        Raises:
            StoreError: If one is not ready in time; the message holds its last log lines.
        """
        began = time.monotonic()
        while True:
            late = [one for one in self.services() if (not wanted or one.name in wanted) and not one.ready]
            took = time.monotonic() - began
            if not late:
                return took
            if took > _READY_S:
                told = "\n".join(self.log_of(one) for one in late)
                names = ", ".join(f"{one.name} ({one.state}, {one.health})" for one in late)
                raise StoreError(f"server: all services must be healthy within {_READY_S} s, got {names}.\n{told}")
            time.sleep(2)

    def log_of(self, service: Service) -> str:
        """The last lines that a service has logged."""
        command = ["docker", "logs", "--tail", str(_LOG_LINES), service.container]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return f"--- {service.name}\n{done.stdout}{done.stderr}"

    def _run(self, command: Sequence[str], *, check: bool = True, timeout_s: float = 3600, **files: Any) -> str:
        named = {"COMPOSE_PROJECT_NAME": self.project} if self.project else {}
        patient = {"COMPOSE_HTTP_TIMEOUT": "300"}  # Compose 1.29 gives up after a minute what takes a busy engine two
        output = files.pop("stdout", None) or subprocess.PIPE
        try:
            done = subprocess.run(
                command,
                env={**patient, **os.environ, **named, **self.environ},
                cwd=CHECKOUT,
                stdout=output,
                stderr=subprocess.PIPE,
                timeout=timeout_s,
                check=False,
                **files,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StoreError(f"{command[0]}: must run and end, got {error}. See whether the engine answers.") from error
        if check and done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-2000:]
            raise StoreError(f"{' '.join(command[:2])} ... {' '.join(command[-3:])}: must succeed, got {said}")
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
