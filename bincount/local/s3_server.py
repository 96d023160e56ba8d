"""moto's S3 over files that stay on disk: imported only by the process that serves them."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from moto.s3.models import FakeKey, get_canned_acl
from werkzeug.serving import BaseWSGIServer, make_server

log = logging.getLogger(__name__)

_PUBLIC = get_canned_acl("public-read")


class FileKey(FakeKey):  # type: ignore[misc]  # moto is not typed
    """An S3 object whose bytes are read from its file when they are asked for.

    moto's own keys hold their bytes in memory: gigabytes for a folder of photos,
    all read before the first answer.
    """

    def __init__(self, name: str, path: Path, bucket: str) -> None:
        """Takes the key's name, its file and its bucket's name."""
        self.path = path
        super().__init__(name, b"", DEFAULT_ACCOUNT_ID, "us-east-1", bucket_name=bucket)
        stat = path.stat()
        self.contentsize = stat.st_size
        self.last_modified = datetime.fromtimestamp(stat.st_mtime, UTC).replace(tzinfo=None)
        self.acl = _PUBLIC  # a client without credentials may read it
        kind = "image/jpeg" if path.suffix == ".jpg" else "application/json"
        self.set_metadata({"Content-Type": kind})

    @property
    def value(self) -> bytes:
        """The file's bytes."""
        return self.path.read_bytes()

    @value.setter
    def value(self, value: bytes) -> None:
        """Takes what moto's constructor sets, and drops it: the file has the bytes."""

    @cached_property
    def _digest(self) -> str:
        return hashlib.md5(self.path.read_bytes(), usedforsecurity=False).hexdigest()

    @property
    def etag(self) -> str:
        """MD5 of the bytes in quotes, as S3 gives it for an object put in one part."""
        return f'"{self._digest}"'

    def __del__(self) -> None:
        """Closes moto's empty buffer, without moto's warning that nobody deleted the key."""
        self.dispose()


class _Handler(MotoRequestHandler):  # type: ignore[misc]  # moto is not typed
    # Keep-alive; and since headers and body are sent apart, an answer on a kept
    # connection would otherwise wait 40 ms for the client's delayed ACK (Nagle).
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_version = "bincount"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Keeps quiet: thousands of lines a minute would bury the ones that matter."""
        log.debug("%s %s", code, self.path)


def _read_only(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return app(environ, start_response)
        # The request's body is not read, so the connection cannot be kept.
        headers = [("Allow", "GET, HEAD"), ("Content-Type", "application/xml"), ("Connection", "close")]
        start_response("405 Method Not Allowed", headers)
        return [
            b"<Error><Code>MethodNotAllowed</Code>"
            b"<Message>The embedded bucket only reads. Change the folder it serves.</Message></Error>"
        ]

    return answer


def make_s3_server(objects: Mapping[str, Path], *, host: str, bucket: str, fd: int) -> BaseWSGIServer:
    """Makes a read-only S3 server with one bucket, a thread per connection.

    Args:
        objects: File of each key.
        host: Address that `fd` is bound to.
        bucket: The bucket's name.
        fd: Listening socket, duplicated here.
    """
    backend = get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"]
    # moto's state is the process': a second server on the name serves the newer folder.
    backend.buckets.pop(bucket, None)
    served = backend.create_bucket(bucket, "us-east-1")
    served.acl = _PUBLIC
    for key, path in objects.items():
        served.keys.setlist(key, [FileKey(key, path, bucket)])
    # moto's S3 alone, not the 200 other services of its server behind the same port.
    app = _read_only(create_backend_app("s3"))
    return make_server(host, 0, app, threaded=True, request_handler=_Handler, fd=fd)
