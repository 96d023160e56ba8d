"""Runs a verb in a process that is killed, as by the kernel, when it is about to call a function for the Nth time.

python -m tests.faults.dying MODULE:FUNCTION NTH VERB --flag=value ...

The function itself is not changed: it is the moment that is chosen.
"""

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def killed(settings, moment, *words, nth=1, **env):
    """Runs a verb as anyone does, until that moment. Returns what it said."""
    named = {**settings.environment(), "PYTHONPATH": str(ROOT), **env}
    command = [sys.executable, "-m", "tests.faults.dying", moment, str(nth), *words]
    done = subprocess.run(command, env=named, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    return done.stderr


def main():
    moment, nth, words = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    module, _, path = moment.partition(":")
    owner = importlib.import_module(module)
    *outer, name = path.split(".")
    for each in outer:
        owner = getattr(owner, each)
    function, calls = getattr(owner, name), 0

    def last(*arguments, **more):
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **more)

    setattr(owner, name, last)
    from bincount.cli import main as run

    run(words)


if __name__ == "__main__":
    main()
