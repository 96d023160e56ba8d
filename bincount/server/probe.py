"""A container's health check: asks an address, and what it says of itself.

python -m bincount.server.probe URL [PATH.TO.A.KEY=VALUE]
"""

from __future__ import annotations

import json
import sys
import urllib.request

_TIMEOUT_S = 8
# A proxy of the environment does not know the other containers.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def probe(url: str, expected: str = "") -> str:
    """What is wrong at an address, "" if nothing is.

    Args:
        url: What is asked.
        expected: What its JSON must hold, such as "scheduler.status=healthy"; nothing if empty.
    """
    try:
        with _opener.open(url, timeout=_TIMEOUT_S) as answer:
            said = answer.read()
        if not expected:
            return ""
        path, _, value = expected.partition("=")
        found = json.loads(said)
        for key in path.split("."):
            found = found[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{url}: {error!r}"
    return "" if found == value else f"{url}: {path} must be {value!r}, got {found!r}"


if __name__ == "__main__":
    sys.exit(probe(*sys.argv[1:]) or 0)
