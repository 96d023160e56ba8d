"""Where a model server is asked, and what it says of itself."""

from __future__ import annotations

import http.client
import json
import urllib.request

from bincount.core.errors import ConfigError
from bincount.edge.settings import without_passwords

_PATIENCE_S = 10


def invocations_url(url: str) -> str:
    """The address that answers, from a server's address.

    Raises:
        ConfigError: If it is no http address.

    Example:
        >>> invocations_url("http://127.0.0.1:5001")
        'http://127.0.0.1:5001/invocations'
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(
            f"model server: must be http://HOST:PORT, got {without_passwords(url)!r}. Set BINCOUNT_SERVING_URL to it."
        )
    return f"{url.rstrip('/').removesuffix('/invocations')}/invocations"


def about_server(url: str, *, token: str | None = None) -> dict:
    """What `bincount serve` says of itself; empty where it does not answer, or another server does.

    Args:
        url: The server, such as "http://127.0.0.1:5001".
        token: What the server asks of its clients, None for nothing.

    Returns:
        `version`, `alias`, `loading`, `refused` and more, as `GET /model` gives it.
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    address = invocations_url(url).removesuffix("invocations") + "model"
    request = urllib.request.Request(address, headers=headers)  # noqa: S310  # invocations_url lets http alone pass
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=_PATIENCE_S) as answer:
            said = json.load(answer)
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    return said if isinstance(said, dict) else {}
