"""Serving checks: of a version before promotion, and of the running model server after it."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata

from bincount.client import about_server, invocations_url
from bincount.errors import ConfigError, StoreError
from bincount.process.session_guard import guarded_command, kill_session, signal_session
from bincount.registry.decision import write_section
from bincount.registry.golden import find_wrong_answer, read_golden, tolerance_of
from bincount.settings import Settings
from bincount.tracking import model_registry, runs
from bincount.tracking.model_registry import Version

_log = logging.getLogger(__name__)

_SERVING = "bincount.serving"
_HOST = "127.0.0.1"
_PAUSE_S = 0.2
_VERIFY_PAUSE_S = 1.0
_STOP_S = 2.0  # from SIGTERM to SIGKILL; less than what a step gets itself (`process.subprocess_runner`)


def check_serving(settings: Settings, *, model_version: str, timeout_s: float = 180) -> dict:
    """Serves a version on a free port of this machine, checks its answers, and stops the server in any case.

    The server is `bincount serve` with this version only. It must answer the
    golden bins as the model does offline, and refuse what is no photo with
    HTTP 400. The result is stored on the version.

    Args:
        settings: Where things are on this machine.
        model_version: The version, such as "3".
        timeout_s: Longest time the server may take to load it.

    Returns:
        `servable` and `reason`, a clause of a sentence.

    Raises:
        ConfigError: If there is no such version.
        StoreError: If the server ends by itself, or does not load the version in time.
    """
    version = model_registry.version_of(settings, model_version)
    golden = read_golden(settings, version.run_id)
    began = time.monotonic()
    with _served(settings, model_version) as (url, server):
        wrong = _refusal(settings, url, server, model_version, timeout_s)
        wrong = wrong or find_wrong_answer(
            url, golden, token=settings.serving_token, timeout_s=60, within=tolerance_of(version)
        )
    reason = (
        f"served, it is refused: {wrong.rstrip('.')}"
        if wrong
        else f"served, it answers {len(golden)} golden bins as it does offline, and refuses what is no photo"
    )
    _log.info("version %s: %s (%.0f s)", model_version, reason, time.monotonic() - began)
    store_check(settings, model_version, servable=wrong is None, reason=reason)
    return {"servable": wrong is None, "reason": reason}


def store_check(settings: Settings, model_version: str, *, servable: bool, reason: str) -> None:
    """Stores the result of a check on a version, as a tag and in its description."""
    result = {"servable": servable, "reason": reason, "code": _code()}
    text = f"- {'met' if servable else '**not met**'}: {reason}"
    write_section(settings, model_version, "Serving check", text, tags={_SERVING: json.dumps(result)})


def stored_check(version: Version) -> dict | None:
    """Result of the last check of a version, None if there is none or other code made it."""
    try:
        result = json.loads(version.tags[_SERVING])
        return {name: result[name] for name in ("servable", "reason")} if result["code"] == _code() else None
    except (KeyError, TypeError, ValueError):
        return None


def verify_serving(settings: Settings, *, model_version: str, timeout_s: float = 180) -> dict:
    """Waits until the model server answers as a version does, and refuses what is no photo.

    Args:
        settings: Names the server, and where the version's golden bins are.
        model_version: The version that should be served.
        timeout_s: Longest time to wait for a server that is starting.

    Returns:
        `verified`, the number of golden bins answered right, and `url`.

    Raises:
        ConfigError: If no server is named, or there is no such version.
        StoreError: If until then the server did not answer, gave the answers of
            another version, or accepted what is no photo.
    """
    if settings.serving_url is None:
        raise ConfigError("BINCOUNT_SERVING_URL: must name the model server, got nothing. Set it to http://HOST:PORT.")
    url = invocations_url(settings.serving_url)
    version = model_registry.version_of(settings, model_version)
    golden = read_golden(settings, version.run_id)
    until = time.monotonic() + timeout_s
    while True:
        request_timeout_s = max(1.0, min(60.0, until - time.monotonic()))
        wrong = _other_version(settings, model_version)
        wrong = wrong or find_wrong_answer(
            url, golden, token=settings.serving_token, timeout_s=request_timeout_s, within=tolerance_of(version)
        )
        if wrong is None:
            _log.info("%s serves version %s", url, model_version)
            return {"verified": len(golden), "url": url}
        if time.monotonic() > until:
            raise StoreError(
                f"{url}: must serve version {model_version} within {timeout_s:.0f} s, got: {wrong} "
                "Check the server's log, and which version it loaded."
            )
        _log.debug("not yet: %s", wrong)
        time.sleep(_VERIFY_PAUSE_S)


@contextlib.contextmanager
def _served(settings: Settings, model_version: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`bincount serve` for the duration of the block; it ends with this process in any case."""
    with socket.socket() as free:
        free.bind((_HOST, 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bincount", "serve", f"--model-version={model_version}", f"--port={port}"]
    _log.info("$ %s", shlex.join(command))
    server = subprocess.Popen(
        guarded_command(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=settings.environment(),
        start_new_session=True,
    )
    try:
        yield f"http://{_HOST}:{port}", server
    finally:
        signal_session(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(_STOP_S)
        kill_session(server.pid)
        server.wait()


def _refusal(
    settings: Settings, url: str, server: subprocess.Popen[bytes], model_version: str, timeout_s: float
) -> str | None:
    """Waits until the server serves the version; returns the reason if it refuses it."""
    until = time.monotonic() + timeout_s
    while True:
        about = about_server(url, token=settings.serving_token)
        if refused := about.get("refused"):
            return refused[0]["reason"]
        if about.get("version") == model_version:
            return None
        if (code := server.poll()) is not None:
            raise StoreError(
                f"bincount serve: must keep running, got exit code {code}. Run the logged command by hand."
            )
        if time.monotonic() > until:
            raise StoreError(
                f"bincount serve: must serve version {model_version} within {timeout_s:.0f} s, got no answer. "
                "See its log above, or give it more time."
            )
        time.sleep(_PAUSE_S)


def _code() -> str:
    """Commit or release of the serving code: a check by another one is not valid."""
    return runs.commit() or metadata.version("bincount")


def _other_version(settings: Settings, model_version: str) -> str | None:
    """A message if the server names another version; plain `mlflow models serve` names none."""
    served = about_server(str(settings.serving_url), token=settings.serving_token).get("version")
    return None if served in (None, model_version) else f"it still serves version {served}."
