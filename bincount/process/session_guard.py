"""Runs a command that ends with the process that started it.

    python session_guard.py OWNER_PID COMMAND [ARGUMENT ...]

The command replaces this process. Before that a guard is left behind in the
same session: as soon as the owner or the command has ended, also by SIGKILL,
it kills every process that is left in the session. It is started as a file, so
that it needs neither the package nor site-packages and starts in milliseconds.
"""

from __future__ import annotations

import os
import select
import signal
import sys


def guarded_command(command: list[str]) -> list[str]:
    """The command line that runs `command` in a session that ends with this process.

    Start it with `start_new_session=True`: all processes of its session end
    with the command or with this process, whichever ends first.
    """
    return [sys.executable, "-S", __file__, str(os.getpid()), *command]


def session_members(session: int) -> list[int]:
    """Ids of the living processes of a session, this process left out."""
    members = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/stat", errors="replace") as file:
                # The command's name in parentheses may hold any character, so the fields are read after it.
                state, _, _, sid = file.read().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(sid) == session and state != "Z":
            members.append(int(name))
    return members


def signal_session(session: int, signum: signal.Signals) -> None:
    """Sends a signal to every process of a session but this one."""
    for pid in session_members(session):
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            continue


def kill_session(session: int) -> None:
    """Kills every process of a session but this one, those forked meanwhile too."""
    while session_members(session):
        signal_session(session, signal.SIGKILL)


def _guard(owner: int, command: int) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    # The command's pipes must not stay open because of the guard.
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    poll = select.poll()
    poll.register(owner, select.POLLIN)
    poll.register(command, select.POLLIN)
    poll.poll()
    kill_session(os.getsid(0))


def main(argv: list[str]) -> None:
    """Leaves the guard behind and becomes the command."""
    owner, command = int(argv[0]), argv[1:]
    try:
        owner_fd = os.pidfd_open(owner)
    except ProcessLookupError:
        return
    # Checked after the descriptor was opened: if the owner died before, this process has another parent now.
    if os.getppid() != owner:
        return
    command_fd = os.pidfd_open(os.getpid())
    # Forked twice, so that the guard is no child of the command.
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            _guard(owner_fd, command_fd)
        os._exit(0)
    os.waitpid(middle, 0)
    os.execvp(command[0], command)  # noqa: S606  # no shell on purpose


if __name__ == "__main__":
    main(sys.argv[1:])
