"""A folder of files whose total size is bounded: the oldest go first."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from uuid import uuid4

from bincount.evaluate.served_log import FILES, PHOTOS
from bincount.files import write_atomically

_PHOTO = re.compile(r"[0-9a-f]{64}\.(?:jpg|png)")


class LogFolder:
    """Files of rows, and photos by their digest; both appear whole or not at all.

    Attributes:
        size: Bytes of all files.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Looks at what is there and removes what a killed process left half-written.

        Args:
            folder: The folder; other files in it are left alone.
            most_bytes: Largest size of all files together.

        Raises:
            OSError: If the folder cannot be read or written.
        """
        self._folder, self._most_bytes = folder, most_bytes
        (folder / PHOTOS).mkdir(parents=True, exist_ok=True)
        half_written = (path for path in (folder / PHOTOS).glob(".*.*.*") if _PHOTO.fullmatch(path.stem[1:]))
        for left in (*folder.glob(f".{FILES}.*"), *half_written):
            if left.is_file():
                left.unlink()
        photos = (path for path in (folder / PHOTOS).iterdir() if _PHOTO.fullmatch(path.name))
        found = [(path, path.stat()) for path in (*folder.glob(FILES), *photos) if path.is_file()]
        found.sort(key=lambda pair: pair[1].st_mtime)
        self._sizes = {path: stat.st_size for path, stat in found}  # oldest first
        self.size = sum(self._sizes.values())

    def new_file(self) -> Path:
        """The path of a new file of rows; names are in the order of time."""
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        return self._folder / FILES.replace("*", f"{moment}-{uuid4().hex[:8]}")

    def write_rows(self, path: Path, content: bytes) -> None:
        """Writes a file anew, after deleting the oldest others until it fits.

        Args:
            path: What `new_file` gave.
            content: All that it shall hold.

        Raises:
            OSError: If the disk does not take it, or it is larger than all files may be.
        """
        before = self._make_room(path, len(content))
        write_atomically(path, [content])
        self._note(path, len(content), before)

    def write_photo(self, digest: str, photo: bytes) -> None:
        """Keeps a photo under its digest; one that is there already counts as new.

        Raises:
            OSError: If the disk does not take it.
        """
        ending = "png" if photo.startswith(b"\x89PNG") else "jpg"
        path = self._folder / PHOTOS / f"{digest}.{ending}"
        if path in self._sizes:
            with contextlib.suppress(FileNotFoundError):  # somebody deleted it
                os.utime(path)
            self._sizes[path] = self._sizes.pop(path)
            return
        self._make_room(path, len(photo))
        # Not flushed to the disk, which takes longer than counting: the digest in its name shows if it is damaged.
        beside = path.with_name(f".{path.name}")
        try:
            beside.write_bytes(photo)
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        self._note(path, len(photo), 0)

    def _make_room(self, path: Path, size: int) -> int:
        """Deletes the oldest other files until there is room; returns the size that the file has now."""
        # The old content of the file takes room, too, until the new content replaces it.
        before = self._sizes.get(path, 0)
        if before + size > self._most_bytes:
            raise OSError(f"{path.name} would have {size} bytes, and the log may have {self._most_bytes}")
        while self.size + size > self._most_bytes:
            oldest = next(other for other in self._sizes if other != path)
            oldest.unlink(missing_ok=True)
            self.size -= self._sizes.pop(oldest)
        return before

    def _note(self, path: Path, size: int, before: int) -> None:
        self._sizes.pop(path, None)  # it is the newest now
        self._sizes[path] = size
        self.size += size - before
