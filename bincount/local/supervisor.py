"""Starts the stack's processes, monitors them and ends them.

Each component runs in a session of its own with a guard (`process.session_guard`)
that kills the session when this process dies. The running sessions are also
written to a file, with which the next supervisor ends them if the guards were killed too.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bincount.errors import ConfigError, StoreError
from bincount.process.session_guard import guarded_command, kill_session, session_members, signal_session

_log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 6.0  # from SIGTERM to SIGKILL, for the whole stack
_TAIL_LINES = 15
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Component:
    """One process of the stack.

    Attributes:
        name: Its name in errors; its output goes to `<name>.log`.
        command: Program and arguments.
        env: Environment variables besides those of this process.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


class Supervisor:
    """The running components, as a context manager that ends them all on exit.

    Args:
        home: Folder of the components' logs and of the list of running sessions.

    Raises:
        ConfigError: On entering, if another supervisor uses the same folder.
    """

    def __init__(self, home: Path) -> None:
        self.logs = home / "logs" / "components"
        self._sessions_file = home / "running.json"
        self._lock_file = home / "up.lock"
        self._lock: IO[str] | None = None
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Supervisor:
        self._sessions_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # Airflow's secrets are here too
        self.logs.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self._lock_file)
        _end_leftovers(self._sessions_file)
        for old in self.logs.glob("*.log"):
            old.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._lock is not None:
            self._lock.close()

    def start(self, component: Component) -> None:
        """Starts a component; its output is appended to its log."""
        with self.log_path(component.name).open("ab") as log:
            self._running[component.name] = subprocess.Popen(
                guarded_command(list(component.command)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | component.env,
                start_new_session=True,
            )
        self._write_list()

    def run(self, component: Component) -> None:
        """Runs a component until it exits.

        Raises:
            StoreError: If its exit code is not 0; the message holds the end of its log.
        """
        self.start(component)
        code = self._running[component.name].wait()
        self._running.pop(component.name)
        if code:
            raise StoreError(self._exit_message(component.name, "succeed", code))

    def check(self) -> None:
        """Checks that all components still run.

        Raises:
            StoreError: If one has exited; the message holds the end of its log.
        """
        for name, process in self._running.items():
            if (code := process.poll()) is not None:
                raise StoreError(self._exit_message(name, "keep running", code))

    def stop(self, *names: str) -> None:
        """Ends the named components, or all: SIGTERM to all their processes, SIGKILL after `STOP_TIMEOUT_S`."""
        ending = {name: self._running.pop(name) for name in names or tuple(self._running)}
        for process in ending.values():
            signal_session(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline and any(process.poll() is None for process in ending.values()):
            time.sleep(0.05)
        for process in ending.values():
            kill_session(process.pid)
            process.wait()
        self._write_list()

    def log_path(self, name: str) -> Path:
        """The file with a component's output."""
        return self.logs / f"{name}.log"

    def _exit_message(self, name: str, rule: str, code: int) -> str:
        tail = "\n".join(self.log_path(name).read_text(errors="replace").splitlines()[-_TAIL_LINES:])
        return f"{name}: must {rule}, got exit code {code}. See {self.log_path(name)}, which ends with:\n{tail}"

    def _write_list(self) -> None:
        sessions = [{"pid": process.pid, "started": _started(process.pid)} for process in self._running.values()]
        beside = self._sessions_file.with_suffix(".new")
        beside.write_text(json.dumps({"boot": _BOOT_ID.read_text(), "sessions": sessions}))
        beside.replace(self._sessions_file)


def _lock(path: Path) -> IO[str]:
    """Locks a file until this process ends; child processes do not inherit the lock."""
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read() or "unknown"
        file.close()
        raise ConfigError(
            f"{path}: only one `bincount up` may run at a time, got process {owner}. Stop it first."
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _end_leftovers(path: Path) -> None:
    """Kills the sessions that an earlier supervisor left running if its guards were killed too."""
    try:
        listed = json.loads(path.read_text())
    except FileNotFoundError:
        return
    except ValueError:
        _log.warning("%s: not JSON, ignored and replaced", path)
        return
    if listed["boot"] != _BOOT_ID.read_text():
        return  # process ids from before a reboot
    for session in listed["sessions"]:
        # A session's id is not reused while a member lives. So its first process either is the
        # one that was listed or is gone; otherwise the id belongs to another process now.
        if _started(session["pid"]) in (session["started"], None):
            if session_members(session["pid"]):
                _log.info("ending session %s of an earlier run", session["pid"])
            kill_session(session["pid"])


def _started(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; None if it does not exist."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except OSError:
        return None
