"""Asking a running model server to count, as any client does."""

from __future__ import annotations

import base64
import http.client
import io
import json
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence

from bincount.errors import ConfigError, DataError, StoreError
from bincount.settings import without_passwords

# Parquet costs about a millisecond at first and next to nothing a photo; base64 in JSON the other way round.
_PARQUET_FROM = 4
_MOST_ROWS = 64
_RETRIED = {429, 502, 503}  # says of itself that it did not count and may soon
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


class Client:
    """Counts items on photos by asking a model server; one connection is kept.

    One photo is sent as base64 in JSON, many as raw bytes in parquet. Not for
    several threads at a time: give each its own.

    Example:
        with Client("http://127.0.0.1:5001") as client:
            answers = client.count([Path("bin.jpg").read_bytes()])
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 60, retries: int = 4) -> None:
        """Remembers the server; nothing is sent yet.

        Args:
            url: The server, such as "http://127.0.0.1:5001".
            token: What the server asks of its clients, None for nothing.
            timeout_s: How long to wait for the answer about at most 64 photos.
            retries: How often to ask again where no answer came, or a later one is promised. Counting
                changes nothing on the server, so asking again is safe. An answer that came too late is
                not asked for again: the server has enough to do.

        Raises:
            ConfigError: If `url` is no http address.
        """
        self._address = without_passwords(invocations_url(url))
        self._parts = urllib.parse.urlsplit(self._address)
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._timeout_s, self._retries = timeout_s, retries
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; the next photos open another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def count(
        self,
        photos: Sequence[bytes],
        recorded: Sequence[int | None] | None = None,
        before: Sequence[tuple[bytes, int] | None] | None = None,
        contents: Sequence[Sequence[Mapping] | None] | None = None,
    ) -> list[dict]:
        """Counts the items on any number of photos, and says what they make of the records.

        Args:
            photos: Bytes of JPEG or PNG files.
            recorded: Recorded count of each bin, None for a bin without; left out if there are no records.
            before: An earlier photo of each bin and the count that was confirmed then, None for a bin without.
            contents: The products on each record, None for one without: objects with `quantity` and, in inches and
                pounds, `length`, `width`, `height` and `weight`.

        Returns:
            An answer a photo, in their order: `count`, `confidence`, `probabilities`,
            `low`, `high`, and of records `mismatch_probability`, `direction` and `verdict`
            (`mismatch.answer`). A model registered before there were any answers the first three only.

        Raises:
            DataError: If the server refuses a photo or the request; the message
                is its own and names the row, counted from the first of 64.
            ConfigError: If it refuses the token (HTTP 401).
            StoreError: If it does not answer in time, or not with predictions.
        """
        answers: list[dict] = []
        for at in range(0, len(photos), _MOST_ROWS):
            some = slice(at, at + _MOST_ROWS)
            body, content_type = request_of(
                photos[some],
                None if recorded is None else recorded[some],
                None if before is None else before[some],
                None if contents is None else contents[some],
            )
            answers += self._ask_about(len(photos[some]), body, content_type)
        return answers

    def _ask_about(self, photos: int, body: bytes, content_type: str) -> list[dict]:
        until, pause_s = time.monotonic() + self._timeout_s, _FIRST_PAUSE_S
        for retries_left in range(self._retries, -1, -1):
            status, said, wait_s = self._ask(body, content_type, until)
            if status == 200:
                return self._predictions(said, photos)
            if status in {401, 403}:
                raise _denied(self._address, status)
            if status in {400, 413, 415}:
                raise DataError(f"{self._address}: {said.decode(errors='replace')[:2000]}")
            # Jitter: those who failed together must not come back together.
            wait_s = max(wait_s, random.uniform(0, pause_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            if not (status is None or status in _RETRIED) or time.monotonic() + wait_s > until or not retries_left:
                break
            time.sleep(wait_s)
        told = said.decode(errors="replace")[:300]
        raise self._failed(told if status is None else f"HTTP {status}: {told}")

    def _ask(self, body: bytes, content_type: str, until: float) -> tuple[int | None, bytes, float]:
        """Status, answer and the seconds to wait that it names; no status if no answer came."""
        headers = {"Content-Type": content_type, **self._headers}
        try:
            connection = self._connected(max(0.1, until - time.monotonic()))
            connection.request("POST", self._parts.path, body, headers)
            response = connection.getresponse()
            said, after = response.read(), response.headers["Retry-After"] or ""
            if response.will_close:
                self.close()
            return response.status, said, float(after) if after.isdecimal() else 0.0
        except TimeoutError:
            self.close()
            raise self._failed(f"nothing within {self._timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return None, (str(error) or type(error).__name__).encode(), 0.0

    def _connected(self, timeout_s: float) -> http.client.HTTPConnection:
        # http.client knows nothing of proxies: the server is a neighbour, none must come between.
        if self._connection is None:
            https = self._parts.scheme == "https"
            kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
            self._connection = kind(self._parts.netloc)
        self._connection.timeout = timeout_s
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s)
        return self._connection

    def _predictions(self, said: bytes, photos: int) -> list[dict]:
        try:
            predictions = json.loads(said)["predictions"]
            found = f"{len(predictions)} predictions for {photos} photos"
        except (ValueError, KeyError, TypeError) as error:
            raise self._failed(str(error)) from None
        if len(predictions) != photos:
            raise self._failed(found)
        return predictions

    def _failed(self, found: str) -> StoreError:
        return StoreError(
            f"{self._address}: must answer with predictions, got {found}. Start the server, or check its log."
        )


def count_bins(url: str, photos: Sequence[bytes], *, timeout_s: float = 60, token: str | None = None) -> list[dict]:
    """Has a model server count the items on photos, without retries (`Client.count`).

    Args:
        url: The server, such as "http://127.0.0.1:5001".
        photos: Bytes of JPEG or PNG files.
        timeout_s: How long to wait for the answer.
        token: What the server asks of its clients, None for nothing.

    Returns:
        An answer a photo: `count`, `confidence`, `probabilities` (`mismatch.answer`).

    Raises:
        DataError: If the server refuses a photo (HTTP 400); the message is its own.
        StoreError: If it does not answer, or not with predictions.
    """
    with Client(url, token=token, timeout_s=timeout_s, retries=0) as client:
        return client.count(photos)


def request_of(
    photos: Sequence[bytes],
    recorded: Sequence[int | None] | None = None,
    before: Sequence[tuple[bytes, int] | None] | None = None,
    contents: Sequence[Sequence[Mapping] | None] | None = None,
) -> tuple[bytes, str]:
    """Body and content type of what asks for photos, with what `Client.count` takes of their records, to be counted."""
    listed = None if contents is None else [None if each is None else json.dumps(list(each)) for each in contents]
    earlier = [row and row[0] for row in before or ()]
    counted = [row and row[1] for row in before or ()]
    if len(photos) < _PARQUET_FROM:
        columns: dict[str, Sequence] = {"image": [base64.b64encode(photo).decode() for photo in photos]}
        columns |= {} if recorded is None else {"recorded": recorded}
        if before is not None:
            texts = [None if photo is None else base64.b64encode(photo).decode() for photo in earlier]
            columns |= {"before": texts, "counted_before": counted}
        columns |= {} if listed is None else {"contents": listed}
        split = {"columns": list(columns), "data": [list(row) for row in zip(*columns.values(), strict=True)]}
        return json.dumps({"dataframe_split": split}).encode(), "application/json"
    import pyarrow
    from pyarrow import parquet

    arrays = {"image": pyarrow.array(photos, pyarrow.binary())}
    arrays |= {} if recorded is None else {"recorded": pyarrow.array(recorded, pyarrow.int64())}
    if before is not None:
        arrays |= {"before": pyarrow.array(earlier, pyarrow.binary()), "counted_before": pyarrow.array(counted)}
    arrays |= {} if listed is None else {"contents": pyarrow.array(listed, pyarrow.string())}
    table = pyarrow.table(arrays)
    buffer = io.BytesIO()
    # Photos are compressed already and hardly ever repeat.
    parquet.write_table(table, buffer, compression="none", use_dictionary=False, write_statistics=False)
    return buffer.getvalue(), "application/vnd.apache.parquet"


_TIMEOUT_S = 10


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
    """The status of `bincount serve`; empty if it does not answer, or another server does.

    Args:
        url: The server, such as "http://127.0.0.1:5001".
        token: What the server asks of its clients, None for nothing.

    Returns:
        `version`, `alias`, `loading`, `refused` and more, as `GET /model` gives it.

    Raises:
        ConfigError: If it refuses the token (HTTP 401).
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    address = invocations_url(url).removesuffix("invocations") + "model"
    request = urllib.request.Request(address, headers=headers)  # noqa: S310  # invocations_url lets http alone pass
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=_TIMEOUT_S) as answer:
            said = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in {401, 403}:
            raise _denied(address, error.code) from None
        return {}
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    return said if isinstance(said, dict) else {}


def _denied(address: str, status: int) -> ConfigError:
    return ConfigError(
        f"{address}: must accept the token, got HTTP {status}. Set BINCOUNT_SERVING_TOKEN to the server's."
    )
