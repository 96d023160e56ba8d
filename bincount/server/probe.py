"""A container's health check over HTTP; `airflow jobs check` would cost 5 s of a processor each time.

python -m bincount.server.probe URL [PATH.TO.A.KEY=VALUE]
"""

from __future__ import annotations

import json
import sys
import urllib.request

_TIMEOUT_S = 8
# Without a proxy of the environment, which cannot reach the other containers.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def probe(url: str, expected: str = "") -> str:
    """The reason why a service is unhealthy; "" if it is healthy.

    Args:
        url: Address to ask.
        expected: Value that its JSON must have, such as "scheduler.status=healthy"; not read if empty.
    """
    try:
        with _opener.open(url, timeout=_TIMEOUT_S) as answer:
            body = answer.read()
        if not expected:
            return ""
        path, _, wanted = expected.partition("=")
        value = json.loads(body)
        for key in path.split("."):
            value = value[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{url}: {error!r}"
    return "" if value == wanted else f"{url}: {path} must be {wanted!r}, got {value!r}"


if __name__ == "__main__":
    sys.exit(probe(*sys.argv[1:]) or 0)
