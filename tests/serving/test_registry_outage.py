"""A tracking server that hangs, or is gone, changes nothing for those who ask."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from bincount.client import Client
from bincount.mismatch.answer import same_answer
from bincount.settings import Settings
from tests.processes import free_ports
from tests.serving.versions import PHOTOS, about, get, name, register_version, serving, wait_until
from tests.stores import make_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def start_registry(place, port, database):
    command = [Path(sys.executable).with_name("mlflow"), "server", "--backend-store-uri", database, "--workers", "1"]
    command += ["--artifacts-destination", place / "served", "--host", "127.0.0.1", "--port", str(port)]
    with (place / "registry.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=log,
            stderr=log,
            cwd=place,
            start_new_session=True,
        )
    wait_until(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close() is None)
    return process


def signal_all(process, signum):
    os.killpg(process.pid, signum)
    if signum == signal.SIGKILL:
        process.wait(30)


def test_an_outage_changes_nothing_and_its_end_is_noticed(tmp_path):
    database, port = make_settings(tmp_path).tracking_uri, free_ports(1)[0]
    settings = Settings(tmp_path / "data", f"http://127.0.0.1:{port}", tmp_path / "unused")
    registry = start_registry(tmp_path, port, database)
    try:
        (first, answers), (second, _) = register_version(settings, seed=1), register_version(settings, seed=2)
        name(settings, first)
        with serving(settings) as (url, process), Client(url, retries=0) as client:
            wait_until(lambda: get(url, "/ready")[0] == 200)
            for outage in (signal.SIGSTOP, signal.SIGKILL):
                signal_all(registry, outage)
                until = time.monotonic() + 12
                while time.monotonic() < until:
                    assert same_answer(client.count(PHOTOS[:1])[0], answers[0])
                    time.sleep(0.1)
                assert (about(url)["version"], about(url)["refused"]) == (first, [])
            registry = start_registry(tmp_path, port, database)
            name(settings, second)
            wait_until(lambda: about(url)["version"] == second)
            signal_all(registry, signal.SIGSTOP)
            time.sleep(2)
            began = time.monotonic()
            process.terminate()
            assert process.wait(20) == 0
            assert time.monotonic() - began < 8
    finally:
        signal_all(registry, signal.SIGKILL)


def test_a_download_that_hangs_does_not_hold_the_end_up(tmp_path):
    database, port = make_settings(tmp_path).tracking_uri, free_ports(1)[0]
    settings = Settings(tmp_path / "data", f"http://127.0.0.1:{port}", tmp_path / "unused")
    registry = start_registry(tmp_path, port, database)
    try:
        version, _ = register_version(settings, seed=1)
        (answers,) = (tmp_path / "served").rglob("answers.json")
        answers.unlink()
        os.mkfifo(answers)  # the server waits for its first byte
        name(settings, version)
        with serving(settings) as (url, process):
            wait_until(lambda: about(url)["loading"] == version)
            time.sleep(5)
            assert about(url)["loading"] == version
            began = time.monotonic()
            process.terminate()
            assert process.wait(20) == 0
            assert time.monotonic() - began < 8
    finally:
        signal_all(registry, signal.SIGKILL)
