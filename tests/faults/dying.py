"""Runs a verb in a process that is killed, as by the kernel, when it is about to call a function for the Nth time.

python -m tests.faults.dying MODULE:FUNCTION NTH VERB --flag=value ...

The function itself is not changed: it is the moment that is chosen. With NTH 0 nothing happens at any moment, and the
number of calls is told at the end. `DYING` in the environment may name other things, in JSON: "signal", such as
SIGSTOP, and "set", values by MODULE:NAME.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def killed(settings, moment, *words, nth=1, **env):
    """Runs a verb as anyone does, until that moment. Returns what it said."""
    named = {**settings.environment(), "PYTHONPATH": str(ROOT), **env}
    command = command_of(moment, *words, nth=nth)
    done = subprocess.run(command, env=named, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    return done.stderr


def command_of(moment, *words, nth=1):
    """The command line."""
    return [sys.executable, "-m", "tests.faults.dying", moment, str(nth), *words]


def main():
    moment, nth, words = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    more = json.loads(os.environ.get("DYING", "{}"))
    for place, value in more.get("set", {}).items():
        setattr(*_owner_of(place), value)
    owner, name = _owner_of(moment)
    function, calls = getattr(owner, name), 0

    def last(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), getattr(signal, more.get("signal", "SIGKILL")))
        return function(*arguments, **named)

    setattr(owner, name, last)
    from bincount.cli import main as run

    try:
        run(words)
    finally:
        print(f"{moment}: {calls} calls", file=sys.stderr)


def _owner_of(place):
    """What has the attribute of that name, and the name."""
    module, _, path = place.partition(":")
    owner = importlib.import_module(module)
    *outer, name = path.split(".")
    for each in outer:
        owner = getattr(owner, each)
    return owner, name


if __name__ == "__main__":
    main()
