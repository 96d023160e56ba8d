"""The embedded S3 server: a folder in the bucket's layout, read over real S3, on 127.0.0.1 unless told otherwise."""

import argparse
import hashlib
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from moto.s3.models import FakeKey, get_canned_acl
from werkzeug.serving import BaseWSGIServer, make_server

from bincount.errors import ConfigError

if TYPE_CHECKING:
    from werkzeug.serving import BaseWSGIServer

_log = logging.getLogger(__name__)

BUCKET = "bins"
HOST = "127.0.0.1"  # nothing outside this machine reaches the bins

# What the bucket holds: folder, then how an object's name ends.
_LAYOUT = {"bin-images": ".jpg", "metadata": ".json"}
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def list_objects(folder: Path) -> dict[str, Path]:
    """Finds what a folder in the bucket's layout offers.

    Only `bin-images/*.jpg` and `metadata/*.json` are offered. A link is followed
    only where it stays inside the folder, so that serving a folder never serves
    anything beside it.

    Args:
        folder: Holds `bin-images/<id>.jpg` and `metadata/<id>.json`.

    Returns:
        The file of each key.

    Raises:
        ConfigError: If the folder is not in that layout, or a part of it is empty.
    """
    objects = {}
    for part, suffix in _LAYOUT.items():
        found = dict(_files_of(folder.resolve(), part, suffix))
        if not found:
            raise ConfigError(
                f"{folder}: must hold bin-images/<id>.jpg and metadata/<id>.json, got no {suffix} file in {part!r}. "
                "Name the folder that holds both, such as a copy of s3://aft-vbi-pds."
            )
        objects.update(found)
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
                _log.warning("%s: a link out of the folder, not served", path)
                continue
            yield f"{part}/{entry.name}", path


def open_bucket(folder: Path, *, port: int, bucket: str = BUCKET, host: str = HOST) -> "BaseWSGIServer":
    """Makes an S3 server whose one bucket is a folder; call `serve_forever` on it.

    It only reads: GET, HEAD and LIST need no credentials, anything else is
    answered 405, and the folder is never written to. It is moto's S3, filled in
    this process: 16,000 PUTs would take minutes before the first answer.

    Args:
        folder: Folder in the bucket's layout, see `list_objects`. A file is read
            when it is asked for; files added later are not seen.
        port: Port to listen on; 0 takes a free one, `.port` of the server tells which.
        bucket: The bucket's name.
        host: Address to listen on; with another than 127.0.0.1 whoever reaches it may read the bins.

    Returns:
        A werkzeug server with a thread per connection, already listening.

    Raises:
        ConfigError: If the folder, the port or the bucket's name will not do.
    """
    if not _BUCKET_NAME.fullmatch(bucket):
        raise ConfigError(
            f"--bucket: must be 3 to 63 lower-case letters, digits, dots or dashes, got {bucket!r}. "
            f"Take another name, such as {BUCKET!r}."
        )
    if not 0 <= port <= 65_535:
        raise ConfigError(f"--port: must be between 0 and 65535, got {port}. Choose another, such as 9000.")
    objects = list_objects(folder)
    try:
        listening = socket.create_server((host, port), backlog=128)
    except OSError as error:
        raise ConfigError(
            f"--port: must be a free port of {host}, got {port} ({error}). Stop what uses it, or choose another."
        ) from error
    with listening:
        return make_s3_server(objects, host=host, bucket=bucket, fd=listening.fileno())


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves a folder until SIGTERM or SIGINT: `python -m bincount.local.embedded_s3 --help`."""
    parser = argparse.ArgumentParser(prog="python -m bincount.local.embedded_s3", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="holds bin-images/<id>.jpg and metadata/<id>.json")
    parser.add_argument("--port", type=int, default=9000, help="port to listen on (default: 9000); 0 takes a free one")
    parser.add_argument("--host", default=HOST, help="address to listen on (default: %(default)s, this machine)")
    parser.add_argument("--bucket", default=BUCKET, help="the bucket's name (default: %(default)s)")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # Nothing here needs saving: ending without clean-up is what makes it immediate.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    try:
        server = open_bucket(args.folder, port=args.port, bucket=args.bucket, host=args.host)
    except ConfigError as error:
        sys.exit(str(error))
    print(f"bucket: s3://{args.bucket} is {args.folder}, at http://{args.host}:{server.port}", flush=True)
    server.serve_forever()


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


if __name__ == "__main__":
    main()
