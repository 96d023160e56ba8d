"""A copy of the checkout in which `bincount up` runs real Airflow, MLflow and bucket with verbs that take no time."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bincount.local.airflow_api import AirflowApi
from bincount.process.session_guard import session_members
from tests.processes import free_ports, wait_until

ROOT = Path(__file__).parents[2]

# Stand-ins for the verbs of the command line; `tune` waits for the test, with a child process of its own.
STEPS = """
import json, logging, pathlib, signal, subprocess, sys, time

ANSWERS = {
    "plan": {"plan": "r", "shards": 5, "finished": False}, "fetch": {"shards": 3},
    "ingest": {"run_id": "abc", "manifest": "m"}, "prepare": {"features": "p"}, "tune": {}, "train": {},
    "evaluate": {}, "register": {"model_version": "1"},
    "gate": {"agreed": False, "outcome": "refused", "reason": "it guesses."},
    "promote": {"promoted": False, "reason": "it guesses."}, "reject": {"reason": "no empty bins"},
}

def main():
    verb, here = sys.argv[1], pathlib.Path(__file__).parents[1]
    if verb == "up":
        from bincount.real_cli import main as real
        real()
    if verb == "serve":
        time.sleep(3600)
    mode = (here / "mode").read_text()
    if verb == "tune" and mode == "wait":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (here / "pids.new").write_text(f"{__import__('os').getpid()} {child.pid}")
        (here / "pids.new").rename(here / "pids")
        time.sleep(600)
    if verb == "tune" and mode == "fail":
        print("features: must be there, got none. Run prepare again.", file=sys.stderr)
        raise SystemExit(3)
    if mode == "agree":
        ANSWERS["gate"] = {"agreed": True, "outcome": "accepted", "reason": "", "against": "none", "comparison": ""}
        ANSWERS["check-serving"] = {"servable": True}
    print(json.dumps(ANSWERS[verb]))
"""


class Checkout:
    """A copy of the package whose verbs are stand-ins, in which `bincount up` runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ports = dict(zip(("airflow", "mlflow", "model", "bucket"), free_ports(4), strict=True))
        for folder in ("bincount", "dags"):
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "mlruns").mkdir()
        (root / "bincount" / "cli.py").rename(root / "bincount" / "real_cli.py")
        (root / "bincount" / "cli.py").write_text(STEPS)
        for part, suffix in (("bin-images", "jpg"), ("metadata", "json")):
            (root / "bins" / part).mkdir(parents=True)
            (root / "bins" / part / f"1.{suffix}").write_text("x")
        self.process: subprocess.Popen | None = None

    def up(self, mode: str, *flags: str, form: dict | None = None) -> subprocess.Popen:
        (self.root / "mode").write_text(mode)
        (self.root / "pids").unlink(missing_ok=True)
        ports = [f"--{name}-port={port}" for name, port in self.ports.items()]
        command = [sys.executable, "-m", "bincount", "up", f"--source={self.root / 'bins'}", *ports, *flags]
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "BINCOUNT"))}
        self.process = subprocess.Popen(
            command,
            cwd=self.root,
            env=env | {"PYTHONPATH": str(self.root), "AIRFLOW__BINCOUNT__TRAIN_BIN_COUNTER": json.dumps(form or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self.process

    def pids(self) -> list[int]:
        wait_until((self.root / "pids").exists, "the step starts", timeout_s=150)
        return [int(pid) for pid in (self.root / "pids").read_text().split()]

    def components(self) -> list[int]:
        listed = json.loads((self.root / ".airflow" / "running.json").read_text())["sessions"]
        return [pid for session in listed for pid in session_members(session["pid"])]

    def api(self) -> AirflowApi:
        password = json.loads((self.root / ".airflow" / "passwords.json").read_text())["admin"]
        return AirflowApi(f"http://127.0.0.1:{self.ports['airflow']}", "admin", password, "train_bin_counter")
