"""Asking a running model server, as any client does."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence

from bincount.core.errors import ConfigError, DataError, StoreError

# The server is a neighbour: a proxy named in the environment must not come between.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def invocations_url(url: str) -> str:
    """The address that answers, from a server's address.

    Raises:
        ConfigError: If it is no http address.

    Example:
        >>> invocations_url("http://127.0.0.1:5001")
        'http://127.0.0.1:5001/invocations'
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"model server: must be http://HOST:PORT, got {url!r}. Set BINCOUNT_SERVING_URL to it.")
    return f"{url.rstrip('/').removesuffix('/invocations')}/invocations"


def count_bins(url: str, photos: Sequence[bytes], *, timeout_s: float = 60) -> list[dict]:
    """Has a model server count the items on photos; asking again is always safe.

    Args:
        url: The server, such as "http://127.0.0.1:5001".
        photos: Bytes of JPEG or PNG files; few enough for one request.
        timeout_s: How long to wait for the answer.

    Returns:
        An answer a photo: `count`, `confidence`, `probabilities` (`core.answers`).

    Raises:
        DataError: If the server refuses a photo (HTTP 400); the message is its own.
        StoreError: If it does not answer, or not with predictions.
    """
    rows = [[base64.b64encode(photo).decode()] for photo in photos]
    body = json.dumps({"dataframe_split": {"columns": ["image"], "data": rows}}).encode()
    address = invocations_url(url)
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310 checked above
    try:
        with _open(request, timeout=timeout_s) as response:
            answer = json.load(response)
            if len(answer["predictions"]) == len(photos):
                return answer["predictions"]
            found = f"{len(answer['predictions'])} predictions for {len(photos)} photos"
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(2000).decode(errors="replace")
        if error.code == 400:
            raise DataError(f"{address}: {said}") from None
        found = f"HTTP {error.code}: {said[:300]}"
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        found = str(error) or type(error).__name__
    raise StoreError(f"{address}: must answer with predictions, got {found}. Start the server, or check its log.")
