"""Which ports of this machine are free."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from bincount.core.errors import ConfigError
from bincount.local.stack import HOST


def is_free(port: int) -> bool:
    """Whether a server could listen on a port of 127.0.0.1."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def check_ports(flags: Mapping[str, int]) -> None:
    """Makes sure that every port can be listened on, before anything is started.

    Args:
        flags: Port by the flag that sets it.

    Raises:
        ConfigError: If one is out of range, named twice or taken; the message names the flag.
    """
    for flag, port in flags.items():
        if not 1 <= port <= 65_535:
            raise ConfigError(f"{flag}: must be a port from 1 to 65535, got {port}. Choose another.")
        if list(flags.values()).count(port) > 1:
            twice = " and ".join(name for name, other in flags.items() if other == port)
            raise ConfigError(f"{twice}: must differ, got {port} for each. Choose others.")
        if not is_free(port):
            raise ConfigError(
                f"{flag}: must be a free port of {HOST}, got {port}, which is taken. Choose another with {flag}."
            )
