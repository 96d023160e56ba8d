"""The embedded S3 server: serves a folder in the bucket's layout as a read-only bucket, on 127.0.0.1 by default.

It is moto's S3, filled in this process, since 16,000 PUTs would take minutes; only the process that serves imports it.

python -m bincount.local.embedded_s3 --folder DIR
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from moto.s3.models import FakeKey, get_canned_acl
from werkzeug.serving import BaseWSGIServer, make_server

from bincount.errors import ConfigError

_log = logging.getLogger(__name__)

BUCKET = "bins"
HOST = "127.0.0.1"

_SUFFIXES = {"bin-images": ".jpg", "metadata": ".json"}  # by folder of the bucket
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PUBLIC = get_canned_acl("public-read")


def open_bucket(folder: Path, *, port: int, bucket: str = BUCKET, host: str = HOST) -> BaseWSGIServer:
    """Creates an S3 server whose one bucket is a folder; call `serve_forever` on it.

    GET, HEAD and LIST need no credentials, anything else is answered 405, and
    the folder is never written to.

    Args:
        folder: Folder in the bucket's layout, see `list_objects`. A file is read
            when it is requested; files added later are not served.
        port: Port to listen on; 0 takes a free one, which is `.port` of the server.
        bucket: The bucket's name.
        host: Address to listen on; with another than 127.0.0.1 anyone who reaches it can read the bins.

    Returns:
        A werkzeug server with a thread per connection, already listening.

    Raises:
        ConfigError: If the folder, the port or the bucket's name is not valid.
    """
    if not _BUCKET_NAME.fullmatch(bucket):
        raise ConfigError(f"--bucket: must be 3 to 63 lower-case letters, digits, dots or dashes, got {bucket!r}.")
    if not 0 <= port <= 65_535:
        raise ConfigError(f"--port: must be between 0 and 65535, got {port}.")
    objects = list_objects(folder)
    try:
        listening = socket.create_server((host, port), backlog=128)
    except OSError as error:
        raise ConfigError(
            f"--port: must be a free port of {host}, got {port} ({error}). Stop what uses it, or choose another."
        ) from error
    backend = get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"]
    # moto's state is global in a process: a second server of the same bucket serves the newer folder.
    backend.buckets.pop(bucket, None)
    served = backend.create_bucket(bucket, "us-east-1")
    served.acl = _PUBLIC
    for key, path in objects.items():
        served.keys.setlist(key, [FileKey(key, path, bucket)])
    # Only S3 of moto's 200 services.
    app = _read_only(create_backend_app("s3"))
    with listening:  # the server duplicates its file descriptor
        return make_server(host, 0, app, threaded=True, request_handler=_Handler, fd=listening.fileno())


def list_objects(folder: Path) -> dict[str, Path]:
    """Lists the objects of a folder in the bucket's layout: `bin-images/*.jpg` and `metadata/*.json`.

    A link is followed only if its target is inside the folder, so that nothing
    outside it is served.

    Args:
        folder: Holds `bin-images/<id>.jpg` and `metadata/<id>.json`.

    Returns:
        File by key.

    Raises:
        ConfigError: If the folder is not in that layout, or a part of it is empty.
    """
    objects = {}
    for part, suffix in _SUFFIXES.items():
        files = dict(_files_of(folder.resolve(), part, suffix))
        if not files:
            raise ConfigError(
                f"{folder}: must hold bin-images/<id>.jpg and metadata/<id>.json, got no {suffix} file in {part!r}. "
                "Name the folder that holds both, such as a copy of s3://aft-vbi-pds."
            )
        objects.update(files)
    return objects


def _files_of(root: Path, part: str, suffix: str) -> Iterator[tuple[str, Path]]:
    inside = root / part
    if not inside.is_dir() or not inside.resolve().is_relative_to(root):
        return
    with os.scandir(inside) as entries:
        for entry in entries:
            if not entry.name.endswith(suffix) or not entry.is_file():
                continue
            path = Path(entry.path)
            if entry.is_symlink() and not path.resolve().is_relative_to(root):
                _log.warning("%s: not served, since its target is outside the folder", path)
                continue
            yield f"{part}/{entry.name}", path


class FileKey(FakeKey):  # type: ignore[misc]  # moto is not typed
    """An S3 object whose bytes are read from its file at each request.

    moto's own keys keep their bytes in memory, which are gigabytes for a folder of photos.
    """

    __module__ = "bincount.local.embedded_s3"  # moto parses it and cannot parse "__main__"

    def __init__(self, name: str, path: Path, bucket: str) -> None:
        """Creates the key of a file."""
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
        """Ignores what moto's constructor sets."""

    @cached_property
    def _digest(self) -> str:
        return hashlib.md5(self.path.read_bytes(), usedforsecurity=False).hexdigest()

    @property
    def etag(self) -> str:
        """MD5 of the bytes in quotes, as S3 gives it for an object put in one part."""
        return f'"{self._digest}"'

    def __del__(self) -> None:
        """Closes moto's empty buffer, which moto would warn of."""
        self.dispose()


class _Handler(MotoRequestHandler):  # type: ignore[misc]  # moto is not typed
    # Headers and body are sent separately: on a connection kept alive, an answer would
    # wait 40 ms for the client's delayed ACK (Nagle).
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_version = "bincount"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Logs at debug level, since there are thousands of requests a minute."""
        _log.debug("%s %s", code, self.path)


def _read_only(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return app(environ, start_response)
        # The request's body is not read, so the connection cannot be kept.
        headers = [("Allow", "GET, HEAD"), ("Content-Type", "application/xml"), ("Connection", "close")]
        start_response("405 Method Not Allowed", headers)
        return [
            b"<Error><Code>MethodNotAllowed</Code>"
            b"<Message>The embedded bucket is read-only. Change the folder that it serves.</Message></Error>"
        ]

    return answer


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves a folder until SIGTERM or SIGINT: `python -m bincount.local.embedded_s3 --help`."""
    parser = argparse.ArgumentParser(
        prog="python -m bincount.local.embedded_s3", description="Serves a folder as an S3 bucket."
    )
    parser.add_argument("--folder", type=Path, required=True, help="holds bin-images/<id>.jpg and metadata/<id>.json")
    parser.add_argument("--port", type=int, default=9000, help="port to listen on (default: 9000); 0 takes a free one")
    parser.add_argument("--host", default=HOST, help="address to listen on (default: %(default)s, this machine)")
    parser.add_argument("--bucket", default=BUCKET, help="the bucket's name (default: %(default)s)")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # No state to save, so it exits at once, also with connections open.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    try:
        server = open_bucket(args.folder, port=args.port, bucket=args.bucket, host=args.host)
    except ConfigError as error:
        sys.exit(str(error))
    print(f"bucket: s3://{args.bucket} is {args.folder}, at http://{args.host}:{server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
