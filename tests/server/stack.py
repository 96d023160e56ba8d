"""The stack of docker-compose.yml under a name, secrets and ports of its own, beside whatever else the engine runs."""

import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bincount.client import Client
from bincount.local.airflow_api import FINAL_STATES, AirflowApi, read_url
from bincount.server.engine import Engine
from bincount.server.secrets import read_env, write_secrets
from tests.processes import free_ports, wait_until

log = logging.getLogger(__name__)

DAG = "train_bin_counter"
QUICK = {"source": "s3://bins", "limit": 200, "image_px": 64, "weights": "none", "trials": 1, "max_epochs": 2}
"""A run of a minute, whose model is of no use."""


class Server:
    """One stack, from its secrets to its last volume."""

    def __init__(self, folder: Path, project: str, **settings: object) -> None:
        self.folder = folder
        self.env_file = folder / "env"
        self.project = project
        ports = dict(zip(("AIRFLOW_PORT", "MLFLOW_PORT", "MODEL_PORT"), free_ports(3), strict=True))
        self._settings = {"COMPOSE_PROFILES": "sample", "TASKS_AT_ONCE": 2, **ports, **settings}
        self._ports = ports
        write_secrets(self.env_file)
        with self.env_file.open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in self._settings.items())
        files = {name: str(value) for name, value in self._settings.items() if name.startswith("COMPOSE_")}
        self.engine = Engine(self.env_file, project, files)

    @property
    def secrets(self) -> dict[str, str]:
        return read_env(self.env_file.read_text())

    def url(self, part: str) -> str:
        return f"http://127.0.0.1:{self._ports[part + '_PORT']}"

    def up(self) -> float:
        """Starts everything and returns the seconds until all was healthy."""
        began = time.monotonic()
        self.engine.start()
        return time.monotonic() - began

    def wipe(self) -> None:
        """Takes everything down, with its volumes."""
        self.engine.compose("down", "--volumes", "--remove-orphans", "--timeout", "10")

    @property
    def airflow(self) -> AirflowApi:
        return AirflowApi(self.url("AIRFLOW"), "admin", self.secrets["AIRFLOW_ADMIN_PASSWORD"], DAG)

    def client(self) -> Client:
        return Client(self.url("MODEL"), token=self.secrets["BINCOUNT_SERVING_TOKEN"])

    def model(self) -> dict:
        token = {"Authorization": f"Bearer {self.secrets['BINCOUNT_SERVING_TOKEN']}"}
        request = urllib.request.Request(self.url("MODEL") + "/model", headers=token)  # noqa: S310
        return json.loads(read_url(request, timeout_s=10))

    def photo(self) -> bytes:
        """One of the sample's photos, as the bucket holds it."""
        bucket = self.engine.service("bucket").container
        name = self.engine.docker("exec", bucket, "sh", "-c", "ls /srv/sample/bins/bin-images | head -1").strip()
        copy = self.folder / "photo.jpg"
        self.engine.docker("cp", f"{bucket}:/srv/sample/bins/bin-images/{name}", str(copy))
        return copy.read_bytes()

    def trigger(self, **params: object) -> str:
        wait_until(self.airflow.has_dag, "the DAG is read", 120)
        return self.airflow.trigger({"source": "s3://bins", **params})

    def follow(self, run: str, timeout_s: float = 1800) -> str:
        """Waits until a run has ended, also if a service does not answer in between."""
        until = time.monotonic() + timeout_s
        state = "unknown"
        while time.monotonic() < until:
            try:
                state = self.airflow.run_state(run)
            except Exception as error:  # a service was killed on purpose
                state = repr(error)
            if state in FINAL_STATES:
                return state
            time.sleep(2)
        raise AssertionError(f"run {run} did not end within {timeout_s} s: {state}")

    def explain(self, run: str) -> str:
        """The states of a run's tasks and the end of each failed one's log."""
        tasks = self.airflow.tasks(run)
        states = [f"{task.label}: {task.state}, attempt {task.attempt}" for task in tasks]
        failed = [line for task in tasks if task.state == "failed" for line in self.airflow.log_lines(run, task)[-25:]]
        return "\n".join(states + failed)


@contextmanager
def started(folder: Path, project: str, **settings: object) -> Iterator[Server]:
    """A stack from nothing, with images of this code; nothing of it is left afterwards."""
    server = Server(folder, project, **settings)
    server.wipe()
    try:
        server.engine.compose("build", "--quiet", "airflow-init")
        log.warning("%s: healthy after %.0f s", project, server.up())
        yield server
    finally:
        server.wipe()


def status(url: str, **headers: str) -> int:
    """The status of a plain GET, redirects not followed."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310
        with urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay).open(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
