"""Machines that share a workspace in a bucket: each has a cache of its own, and runs commands as anyone does."""

import dataclasses
import json
import os
import re
import signal
import subprocess

from bincount.reconcile.reconcile import reconcile
from bincount.settings import Settings
from bincount.store.bucket_workspace import BucketWorkspace
from bincount.tracking import runs
from tests.faults.dying import ROOT, command_of
from tests.learn.bins import write_bins
from tests.reconcile.reconciled import registered, write_source

SHORT = {
    "bincount.store.lease:LEASE_S": 3.0,
    "bincount.store.bucket_workspace:_CHECKPOINT_S": 0.0,
    "bincount.store.bucket_workspace:_CHECKPOINT_SHARE": 1e9,
}
"""Settings that make a test fast: short leases, and a checkpoint whenever one is possible."""

BINS, SHARD_BYTES = 400, 30_000
SMALL_SHARDS = {"bincount.dataset.placement:SHARD_BYTES": SHARD_BYTES}
NETWORK = {"backbone": "MobileNetV3Small", "weights": "none", "image_px": 32}
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in NETWORK.items()]
FOUND = {"learning_rate": 2e-2, "batch_size": 32, "epochs": 6, "units": 16, "dropout": 0.1}
FETCHING = r"fetching \d+ photos, about [\d.]+ GB, into (\d+) shards"
CHUNKS = {"bincount.reconcile.scoring:_CHUNK": 16}


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
    """Number of calls of the function of the moment."""
    return int(re.search(r": (\d+) calls$", said, re.M)[1])


def keys(client, bucket, folder=""):
    """Names of the objects of a folder of the workspace, without leases."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"work/{folder}")
    found = [entry["Key"].removeprefix("work/") for page in pages for entry in page.get("Contents", [])]
    return [name for name in found if not name.endswith(".lock")]


def ingested(answer):
    """The parts of an answer that do not differ from run to run."""
    return {name: value for name, value in answer.items() if name != "run_id"}


def put(machine):
    """Shares all that was written to a machine's cache."""
    machine.shared.push(machine.settings.workspace)


def prepared_run(machine, bins=60):
    """Made bins in the bucket, and a run. Returns the run's id and the bins' digest."""
    manifest = write_bins(machine.settings.workspace, bins=bins)
    put(machine)
    settings = make_settings_of(machine)
    return runs.open_run(settings), manifest


def make_settings_of(machine):
    """Settings of this process with the tracking server of a machine, and a folder."""
    place = machine.settings.cache.parent
    return dataclasses.replace(
        machine.settings, workspace=place / "calm", remote=None, artifacts=place / "artifacts", buckets={}
    )


def open_reconciliation(tmp_path, machine, bins=80):
    """A registered model and bins. Returns the words of a reconciliation, and the files of an undisturbed one."""
    folder = make_settings_of(machine)
    model = registered(folder)
    write_source(tmp_path / "source", bins=bins)
    reconcile(folder, source=str(tmp_path / "source"), model=model, out=str(tmp_path / "undisturbed"))
    return ("reconcile", f"--source={tmp_path / 'source'}", f"--model={model}"), files(tmp_path / "undisturbed")


def files(folder):
    """Names and contents."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}
