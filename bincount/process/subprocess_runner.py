"""Runs one step in a fresh Python process and waits for its answer.

Airflow runs a task in a process it forked, and TensorFlow does not survive a
fork. So a task starts the command that a person would type, and the process
ends with the task, also when the task is killed.
"""

from __future__ import annotations

import json
import logging
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bincount.errors import BincountError, ConfigError, DataError, StoreError
from bincount.process.session_guard import guarded_command, kill_session

_log = logging.getLogger(__name__)

# Exit codes of `python -m bincount`, by what the reader should do.
EXIT_CODES: Mapping[int, type[BincountError]] = {2: ConfigError, 3: DataError, 4: StoreError}
STOP_S = 3  # from SIGTERM to SIGKILL; Airflow kills the task 5 s after its own SIGTERM
_TAIL_LINES = 12


def run_step(
    verb: str, params: Mapping[str, Any], *, program: Sequence[str] = (sys.executable, "-m", "bincount")
) -> dict[str, Any]:
    """Runs `bincount VERB --name=value ...` in a process of its own.

    Its log lines go to this module's logger as they come; its output is the
    step's answer. SIGTERM here is passed on, and what is left of the step
    after 3 seconds is killed. If this process is killed, so is the step and
    all that it started.

    Args:
        verb: The step, such as "ingest", or "outcomes import counts.csv" with what stands before its flags.
        params: The step's arguments by name: see `flags_of`.
        program: What takes the verb.

    Returns:
        The JSON object that the step printed.

    Raises:
        ConfigError: If the step ended with exit code 2.
        DataError: If the step ended with exit code 3.
        StoreError: If the step ended with exit code 4.
        BincountError: If it ended in another way, got SIGTERM, or printed no JSON object.
    """
    command = [*program, *shlex.split(verb), *flags_of(params)]
    _log.info("$ %s", shlex.join(command))
    with tempfile.TemporaryFile("w+") as answer:
        with _passing_on_sigterm() as stop:
            child = subprocess.Popen(
                guarded_command(command),
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            with child:
                stop.watch(child)
                tail = _log_lines(child.stderr or ())
        if stop.requested:
            raise BincountError(f"{verb}: must run to its end, got SIGTERM. Clear the task to run the step again.")
        if child.returncode:
            raise _error_of(verb, child.returncode, tail)
        answer.seek(0)
        return _parse(verb, answer.read())


def flags_of(params: Mapping[str, Any]) -> list[str]:
    """Command line flags of a step's arguments; None and False are left out.

    Example:
        >>> flags_of({"image_px": 224, "limit": None, "source": "s3://a b", "blind": True})
        ['--image-px=224', '--source=s3://a b', '--blind']
    """
    given = {f"--{name.replace('_', '-')}": value for name, value in params.items()}
    return [
        flag if value is True else f"{flag}={value}"
        for flag, value in given.items()
        if value is not None and value is not False
    ]


def _log_lines(lines: Iterable[str]) -> str:
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    for line in lines:
        _log.info("%s", line.rstrip())
        tail.append(line.rstrip())
    return "\n".join(tail)


def _parse(verb: str, text: str) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise BincountError(f"{verb}: must print one JSON object, got {text[-200:]!r}. Run the logged command by hand.")
    return answer


def _error_of(verb: str, code: int, tail: str) -> BincountError:
    if code in EXIT_CODES and tail:
        return EXIT_CODES[code](tail)
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return BincountError(f"{verb}: must end with exit code 0, got {how}. Run the logged command by hand.\n{tail}")


class _Stop:
    """Ends the step when SIGTERM has come, also when it came before the step was started."""

    def __init__(self) -> None:
        self.requested = False
        self._child: subprocess.Popen[str] | None = None

    def watch(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        if self.requested:
            self()

    def __call__(self, *_: object) -> None:
        self.requested = True
        if self._child is None or self._child.poll() is not None:
            return
        self._child.terminate()
        killer = threading.Timer(STOP_S, kill_session, [self._child.pid])
        killer.daemon = True
        killer.start()


@contextmanager
def _passing_on_sigterm() -> Iterator[_Stop]:
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals go to the main thread alone; being killed still ends the step
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
