"""Machines that share a workspace in a bucket: each has a cache of its own, and runs commands as anyone does."""

import json
import os
import re
import signal
import subprocess

from bincount.settings import Settings
from bincount.store.workspace import BucketWorkspace
from tests.faults.dying import ROOT, command_of

SHORT = {
    "bincount.store.lease:LEASE_S": 3.0,
    "bincount.store.workspace:_CHECKPOINT_S": 0.0,
    "bincount.store.workspace:_CHECKPOINT_SHARE": 1e9,
}
"""What makes a test fast: short leases, and a checkpoint whenever one is possible."""


class Machine:
    """One machine, whose commands are processes.

    Attributes:
        settings: As its commands have them.
    """

    def __init__(self, folder, remote, endpoint, *, python_path=(), **constants):
        """A machine whose cache is `folder`; `constants` are values by MODULE:NAME, beside those of `SHORT`."""
        bucket = remote.removeprefix("s3://").partition("/")[0]
        store = folder.parent
        self._env = {
            **os.environ,
            "BINCOUNT_WORKSPACE": remote,
            "BINCOUNT_CACHE": str(folder),
            "BINCOUNT_BUCKETS": json.dumps({bucket: endpoint}),
            "MLFLOW_TRACKING_URI": f"sqlite:///{store / 'mlflow.db'}",
            "PYTHONPATH": os.pathsep.join([*map(str, python_path), str(ROOT)]),
        }
        self._constants = {**SHORT, **constants}
        self.settings = Settings.from_env(self._env)

    @property
    def shared(self):
        """The workspace as this machine sees it, in this process."""
        return BucketWorkspace(self.settings)

    def start(self, *words, moment="bincount.cli:main", nth=0, stopped=False):
        """Starts a verb, which is killed or `stopped` at the Nth call of a function."""
        told = {"set": self._constants, "signal": "SIGSTOP" if stopped else "SIGKILL"}
        return subprocess.Popen(
            command_of(moment, *map(str, words), nth=nth),
            env={**self._env, "DYING": json.dumps(told)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words, **moment):
        """Runs a verb to its end. Returns its answer and what it said."""
        return answer_of(self.start(*words, **moment))

    def killed(self, *words, moment, nth=1):
        """Runs a verb until it is killed."""
        process = self.start(*words, moment=moment, nth=nth)
        _, said = process.communicate(timeout=600)
        assert process.returncode == -signal.SIGKILL, said[-3000:]

    def failed(self, *words):
        """Runs a verb that ends with an error. Returns its exit code and what it said last."""
        process = self.start(*words)
        _, said = process.communicate(timeout=600)
        assert process.returncode not in (0, 1), said[-3000:]
        return process.returncode, next(line for line in said.splitlines()[::-1] if line.startswith("bincount "))


def answer_of(process):
    """Waits for a verb that was started. Returns its answer and what it said."""
    answer, said = process.communicate(timeout=600)
    assert process.returncode == 0, said[-3000:]
    return json.loads(answer), said


def calls(said):
    """How often the function of the moment was called."""
    return int(re.search(r": (\d+) calls$", said, re.M)[1])
