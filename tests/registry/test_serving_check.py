"""A version is served before it may be champion, by the command that will serve it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bincount.errors import StoreError
from bincount.registry.serving_check import check_serving, stored_check
from bincount.tracking import model_registry
from tests.processes import wait_until
from tests.serving.versions import register_version
from tests.stores import make_settings

# MLflow wishes type hints of the models that these tests write, too.
pytestmark = pytest.mark.filterwarnings("ignore:.*Add type hints to the `predict` method:UserWarning")

ROOT = Path(__file__).parents[2]


def servers(version, settings):
    """Ids of the processes that serve this version of this registry, listeners and workers."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if settings.tracking_uri not in Path(f"/proc/{pid}/environ").read_text(errors="replace"):
                continue
            if f"--model-version={version}" in words or "bincount.serving.worker" in words:
                found.append(int(pid))
    return found


@pytest.mark.parametrize(
    ("golden", "words"),
    [
        (None, "served, it answers 5 golden bins"),
        # A ten-thousandth is the tolerance; this is three of them.
        (lambda answer: answer["probabilities"] | {"1": answer["probabilities"]["1"] + 3e-4}, "bin 0 should be"),
    ],
)
def test_a_version_is_asked_and_its_server_ended(tmp_path, golden, words):
    settings = make_settings(tmp_path)

    def changed(answers):
        return {row: answer | {"probabilities": golden(answer)} for row, answer in answers.items()}

    version, _ = register_version(settings, seed=1, golden=golden and changed)
    answer = check_serving(settings, model_version=version)
    assert answer["servable"] is (golden is None)
    assert words in answer["reason"]
    found = model_registry.version_of(settings, version)
    assert stored_check(found) == answer
    assert words in found.description
    assert model_registry.alias(settings, "champion") is None
    wait_until(lambda: not servers(version, settings), "its servers end", 5)


def test_a_server_that_does_not_come_up_is_no_verdict(tmp_path):
    settings = make_settings(tmp_path)
    version, _ = register_version(settings, seed=1)
    with pytest.raises(StoreError, match=f"bincount serve: must serve version {version} within 0 s, got no answer"):
        check_serving(settings, model_version=version, timeout_s=0.1)
    assert stored_check(model_registry.version_of(settings, version)) is None
    wait_until(lambda: not servers(version, settings), "its servers end", 5)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_the_server_ends_with_the_step(tmp_path, sent):
    settings = make_settings(tmp_path)
    version, _ = register_version(settings, seed=1)
    step = subprocess.Popen(
        [sys.executable, "-m", "bincount", "check-serving", version],
        env=settings.environment() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        # The listener and the version's own process, which has a session of its own.
        wait_until(lambda: len(servers(version, settings)) >= 2, "its servers start", 120)
        step.send_signal(sent)
        assert step.wait(10) != 0
        wait_until(lambda: not servers(version, settings), "its servers end", 5)
    finally:
        step.kill()
        step.communicate()


def test_the_verb_prints_what_it_found(tmp_path):
    settings = make_settings(tmp_path)
    version, _ = register_version(settings, seed=1)
    done = subprocess.run(
        [sys.executable, "-m", "bincount", "check-serving", version],
        env=settings.environment() | {"PYTHONPATH": str(ROOT), "BINCOUNT_SERVING_TOKEN": "a token"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["servable"] is True
    assert "bincount serve --model-version=1 --port=" in done.stderr
    assert "a token" not in done.stderr
