"""A workspace in a bucket: conditional writes, a cache on this machine, and leases in place of locks.

The contract is `workspace.Workspace`.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from bincount.errors import ConfigError, StoreError
from bincount.files import sha256_of_file
from bincount.settings import Settings
from bincount.store.cache import Cache, Synced
from bincount.store.lease import Lease
from bincount.store.s3 import S3Store

if TYPE_CHECKING:
    import obstore.store
    from obstore import PutMode

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

_SHA256 = "sha256"
"""Name of the metadata entry of an object that holds its digest."""
# Above it a write is in parts, which S3 cannot make conditional: the object is looked at before.
_CONDITIONAL_BYTES = 64_000_000
_PIECE_BYTES = 4 << 20
_LARGE_BYTES = 50_000_000  # worth a line in the log
_CHECKPOINT_S, _CHECKPOINT_SHARE = 30.0, 1 / 20
# Work in progress, and what belongs to this machine alone.
_OWN = (".lock", ".damaged", ".partial", ".part", ".beside", ".beside.npy", "-wal", "-shm", "-journal")


class BucketWorkspace:
    """Objects below a prefix of a bucket; `Settings.workspace` is this machine's cache of them.

    Attributes:
        usage: Number of requests by kind ("get", "put", "list", "delete", "lease"), and of bytes "pulled" and
            "pushed". A file above 64 MB is one "put" here, and billed as one per part.
    """

    def __init__(self, settings: Settings) -> None:
        """Opens the cache, and the bucket at the first request."""
        self._root = settings.workspace
        self._root.mkdir(parents=True, exist_ok=True)
        self._store = S3Store(str(settings.remote), settings)
        self._cache = Cache(self._root, round(settings.cache_gb * 1e9))
        self._leases: list[Lease] = []
        self._due: dict[Path, float] = {}
        self.usage: Counter[str] = Counter()
        if not self._cache.is_checked(self._store.source):
            self._check_conditional_writes()
            self._cache.set_checked(self._store.source)

    def pull(self, *files: Path) -> None:
        """Gets those that changed."""
        for file in files:
            self._get(file, known=self._cache.find(self._name(file)))

    def pull_folder(self, folder: Path, *patterns: str) -> None:
        """Lists the folder and gets those that changed."""
        listed = {name: etag for name, etag in self._list(folder) if _matches(name, patterns)}
        known = self._cache.below(self._name(folder))
        for name, etag in listed.items():
            path, synced = self._path(name), known.get(name)
            if synced is None or synced.etag != etag or not path.exists():
                self._get(path, known=synced)
        gone = [name for name in known.keys() - listed.keys() if _matches(name, patterns)]
        for name in gone:
            path = self._path(name)
            if known[name].is_unchanged(path):
                path.unlink(missing_ok=True)
        self._cache.forget(*gone)
        self._cache.use(listed)

    def push(self, *paths: Path) -> None:
        """Puts those that changed."""
        for path in paths:
            for file in _files_of(path):
                self._put(file)

    def publish(self, folder: Path, *, last: str) -> None:
        """Deletes the marker, puts the files, deletes the others and puts the marker."""
        files = _files_of(folder)
        marker = folder / last
        known = self._cache.below(self._name(folder))
        if all(known.get(self._name(file), _NEVER).is_unchanged(file) for file in files):
            return
        head, before = self._head(self._name(marker)), known.get(self._name(marker))
        if head and head[1] != sha256_of_file(marker):
            if before is None or head[0] != before.etag:
                raise self._changed(self._name(marker))
            self.delete(marker)
        self.push(*(file for file in files if file != marker))
        ours = {self._name(file) for file in files}
        self.delete(*(self._path(name) for name, _ in self._list(folder) if name not in ours))
        self.push(marker)

    def checkpoint(self, path: Path, write: Callable[[], object] = lambda: None) -> None:
        """Pushes if it is due."""
        now = time.monotonic()
        if now < self._due.setdefault(path, now + _CHECKPOINT_S):
            return
        write()
        self.push(path)
        took_s = time.monotonic() - now
        self._due[path] = time.monotonic() + max(_CHECKPOINT_S, took_s / _CHECKPOINT_SHARE)

    def delete(self, *files: Path) -> None:
        """Deletes them in one request."""
        import obstore

        self._check_leases()
        names = [self._name(file) for file in files]
        if names:
            self._ask("delete", lambda bulk: obstore.delete(bulk, [self._key(name) for name in names]))
            self._cache.forget(*names)

    def delete_folder(self, folder: Path) -> None:
        """Lists the folder and deletes its objects."""
        self.delete(*(self._path(name) for name, _ in self._list(folder)))

    def sha256_of(self, file: Path) -> str | None:
        """Reads the object's metadata."""
        head = self._head(self._name(file))
        return head and head[1]

    @contextlib.contextmanager
    def lock(self, path: Path, what: str, *, timeout_s: float = math.inf) -> Iterator[None]:
        """Holds a lease while the block runs."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lease = Lease(partial(self._ask, "lease"), self._key(self._name(path)), what, timeout_s=timeout_s)
        with lease.held():
            self._leases.append(lease)
            try:
                yield
            finally:
                self._leases.remove(lease)

    def _get(self, path: Path, *, known: Synced | None) -> None:
        """Gets an object if it is another than the one that is known."""
        import obstore
        from obstore.exceptions import NotModifiedError

        name = self._name(path)
        etag = known.etag if known and path.exists() else None

        def ask(bulk: obstore.store.S3Store) -> Synced | None:
            try:
                answer = obstore.get(bulk, self._key(name), options={"if_none_match": etag} if etag else None)
            except FileNotFoundError:
                return None
            except NotModifiedError:
                return known
            digest, size = dict(answer.attributes).get(_SHA256), answer.meta["size"]
            if digest is None or not path.exists() or sha256_of_file(path) != digest:
                self._cache.make_room(size)
                if size > _LARGE_BYTES:
                    _log.info("workspace: getting %s, %.2f GB", name, size / 1e9)
                _download(answer.stream(min_chunk_size=_PIECE_BYTES), path, digest)
                written_s = answer.meta["last_modified"].timestamp()
                os.utime(path, (written_s, written_s))
                self.usage["pulled"] += size
            return Synced.of(path, str(answer.meta["e_tag"]))

        synced = self._ask("get", ask)
        if synced is None:
            self._cache.forget(name)
        else:
            self._cache.note(name, synced)

    def _put(self, path: Path) -> None:
        """Puts a file if it is another than the object, and the object is still the one that is known."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        name = self._name(path)
        known = self._cache.find(name)
        if known and known.is_unchanged(path):
            return
        self._check_leases()
        size, digest = path.stat().st_size, sha256_of_file(path)
        mode: PutMode = {"e_tag": known.etag} if known else "create"
        if size > _CONDITIONAL_BYTES:
            head, mode = self._head(name), "overwrite"
            if head and head[1] == digest:
                self._cache.note(name, Synced.of(path, head[0]))
                return
            if head and (known is None or head[0] != known.etag):
                raise self._changed(name)
            _log.info("workspace: putting %s, %.2f GB", name, size / 1e9)

        def ask(bulk: obstore.store.S3Store) -> str | None:
            try:
                answer = obstore.put(bulk, self._key(name), path, mode=mode, attributes={_SHA256: digest})
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                return None
            return str(answer["e_tag"])

        etag = self._ask("put", ask)
        if etag is None:  # an earlier try of this very write may have come through without its answer
            head = self._head(name)
            if head is None or head[1] != digest:
                raise self._changed(name)
            etag = head[0]
        self.usage["pushed"] += size
        self._cache.note(name, Synced.of(path, etag))

    def _head(self, name: str) -> tuple[str, str | None] | None:
        """ETag and digest of an object, None if there is none."""
        import obstore

        def ask(bulk: obstore.store.S3Store) -> tuple[str, str | None] | None:
            try:
                answer = obstore.get(bulk, self._key(name), options={"head": True})
            except FileNotFoundError:
                return None
            digest = dict(answer.attributes).get(_SHA256)
            return str(answer.meta["e_tag"]), None if digest is None else str(digest)

        return self._ask("get", ask)

    def _list(self, folder: Path) -> list[tuple[str, str]]:
        """Names and ETags of the objects below a folder, without locks."""
        import obstore

        prefix = self._key(self._name(folder))

        def ask(bulk: obstore.store.S3Store) -> list[tuple[str, str]]:
            found = [entry for page in obstore.list(bulk, prefix) for entry in page]
            return [(entry["path"][len(self._key("")) :], str(entry["e_tag"])) for entry in found]

        return [(name, etag) for name, etag in self._ask("list", ask) if not name.endswith(_OWN)]

    def _ask(self, kind: str, ask: Callable[[obstore.store.S3Store], _T], stopped: threading.Event | None = None) -> _T:
        self.usage[kind] += 1
        return self._store.request(ask, stopped)

    def _check_leases(self) -> None:
        for lease in self._leases:
            lease.check()

    def _check_conditional_writes(self) -> None:
        """Writes an object twice that may be written once only.

        Raises:
            ConfigError: If the second write succeeds, or the server refuses the condition.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        key = self._key(f"probe-{uuid4().hex}")
        obeyed: set[str] = set()  # a retry adds nothing

        def ask(bulk: obstore.store.S3Store) -> None:
            obstore.put(bulk, key, b"1", mode="overwrite")
            for mode in ("create", {"e_tag": '"0"'}):
                try:
                    obstore.put(bulk, key, b"2", mode=mode)  # type: ignore[arg-type]
                except (AlreadyExistsError, PreconditionError):
                    obeyed.add(str(mode))
                except BaseError as error:
                    if "NotImplemented" not in str(error):
                        raise

        try:
            self._ask("put", ask)
        finally:
            with contextlib.suppress(Exception):
                self._ask("delete", lambda bulk: obstore.delete(bulk, key))
        if len(obeyed) < 2:
            raise ConfigError(
                f"BINCOUNT_WORKSPACE: {self._store.source} must have conditional writes (If-None-Match and If-Match), "
                "got a server that ignores them: two workers could overwrite each other's results. Use a newer "
                "server, or a folder that all workers see."
            )

    def _changed(self, name: str) -> StoreError:
        return StoreError(
            f"{self._store.source}/{name}: must be as it was when this worker read it, got another or "
            "none. Nothing was overwritten; run again."
        )

    def _key(self, name: str) -> str:
        return f"{self._store.prefix}{name}"

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _path(self, name: str) -> Path:
        path = self._root / name
        if ".." in Path(name).parts or not path.is_relative_to(self._root):
            raise ConfigError(f"{self._store.source}: keys must lead into the workspace, got {name!r}.")
        return path


_NEVER = Synced("", -1, -1)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return not patterns or any(Path(name).match(pattern) for pattern in patterns)


def _files_of(path: Path) -> list[Path]:
    """The finished files of a folder, or the file itself; none where there is nothing."""
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [each for each in found if each.is_file() and not each.name.startswith(".") and not each.name.endswith(_OWN)]


def _download(pieces: Iterable[Any], path: Path, digest: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".pull-{uuid4().hex}")
    hashed = hashlib.sha256()
    try:
        with beside.open("wb") as file:
            for piece in pieces:
                data = memoryview(piece)
                hashed.update(data)
                file.write(data)
        if digest is not None and hashed.hexdigest() != digest:
            raise StoreError(f"{path.name}: must have the SHA-256 that was pushed, got another. Run again.")
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
