"""Starts the stack's processes, watches them and ends every one of them.

Each part runs in a session of its own, tied to this process (`process.session_guard`):
when this process is killed, so is every part with all it has started. What
runs is also written to a file, for the case that even the guards were killed.
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

STOP_S = 6.0  # from SIGTERM to SIGKILL, for the whole stack
_TAIL_LINES = 15
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Part:
    """One process of the stack.

    Attributes:
        name: How the log and the errors call it; its output goes to `<name>.log`.
        command: Program and arguments.
        env: What is added to this process' environment.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


class Supervisor:
    """The parts that run now. Use it as a context: leaving it ends them all.

    Args:
        home: Folder of the parts' logs and of the list of what runs.

    Raises:
        ConfigError: On entering, if another supervisor uses the same folder.
    """

    def __init__(self, home: Path) -> None:
        self.logs = home / "logs" / "parts"
        self._list = home / "running.json"
        self._lock_file = home / "up.lock"
        self._lock: IO[str] | None = None
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Supervisor:
        self._list.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # Airflow's secrets live here too
        self.logs.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self._lock_file)
        _end_leftovers(self._list)
        for old in self.logs.glob("*.log"):
            old.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._lock is not None:
            self._lock.close()

    def start(self, part: Part) -> None:
        """Starts a part; its output is appended to its log."""
        with self.log_of(part.name).open("ab") as log:
            self._running[part.name] = subprocess.Popen(
                guarded_command(list(part.command)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | part.env,
                start_new_session=True,
            )
        self._write_list()

    def run(self, part: Part) -> None:
        """Runs a part to its end.

        Raises:
            StoreError: If it fails; the message holds the end of its log.
        """
        self.start(part)
        code = self._running[part.name].wait()
        self._running.pop(part.name)
        if code:
            raise StoreError(self._ended(part.name, "succeed", code))

    def check(self) -> None:
        """Looks whether all parts still run.

        Raises:
            StoreError: If one has ended; the message holds the end of its log.
        """
        for name, process in self._running.items():
            if (code := process.poll()) is not None:
                raise StoreError(self._ended(name, "keep running", code))

    def stop(self, *names: str) -> None:
        """Ends the named parts, or all: SIGTERM to all their processes, after a while SIGKILL."""
        ending = {name: self._running.pop(name) for name in names or tuple(self._running)}
        for process in ending.values():
            signal_session(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline and any(process.poll() is None for process in ending.values()):
            time.sleep(0.05)
        for process in ending.values():
            kill_session(process.pid)
            process.wait()
        self._write_list()

    def log_of(self, name: str) -> Path:
        """The file with a part's output."""
        return self.logs / f"{name}.log"

    def _ended(self, name: str, rule: str, code: int) -> str:
        tail = "\n".join(self.log_of(name).read_text(errors="replace").splitlines()[-_TAIL_LINES:])
        return f"{name}: must {rule}, got exit code {code}. See {self.log_of(name)}, which ends with:\n{tail}"

    def _write_list(self) -> None:
        sessions = [{"pid": process.pid, "started": _started(process.pid)} for process in self._running.values()]
        beside = self._list.with_suffix(".new")
        beside.write_text(json.dumps({"boot": _BOOT_ID.read_text(), "sessions": sessions}))
        beside.replace(self._list)


def _lock(path: Path) -> IO[str]:
    """Holds a file until this process ends, in whatever way; no child inherits it."""
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read() or "unknown"
        file.close()
        raise ConfigError(
            f"{path}: must be held by one `bincount up` at a time, got process {owner}. Stop that one first."
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def _end_leftovers(path: Path) -> None:
    """Kills what an earlier supervisor left running, if it was killed together with its guards."""
    try:
        listed = json.loads(path.read_text())
    except FileNotFoundError:
        return
    except ValueError:
        _log.warning("%s is not JSON and tells of no leftovers; it will be replaced.", path)
        return
    if listed["boot"] != _BOOT_ID.read_text():
        return  # these process ids are of another life of this machine
    for session in listed["sessions"]:
        # A session's number is given to no other process while one member lives, and its
        # first process is alive or no process at all; else the number belongs to a stranger.
        if _started(session["pid"]) in (session["started"], None):
            if session_members(session["pid"]):
                _log.info("ending what an earlier run left behind: session %s", session["pid"])
            kill_session(session["pid"])


def _started(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None where there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except OSError:
        return None
