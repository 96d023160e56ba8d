"""A real file system of a few megabytes, to be filled or made read-only."""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest


class SmallDisk:
    """A tmpfs at a folder; what does not fit is refused by the kernel, not by a patched function."""

    def __init__(self, folder):
        self.folder = folder

    def fill(self, *, but_bytes=0):
        """Takes all room but so much."""
        left = os.statvfs(self.folder)
        size = left.f_bavail * left.f_frsize - but_bytes
        with (self.folder / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, size))

    def make_read_only(self):
        """Refuses every change, also root's."""
        _mount("-o", "remount,ro", str(self.folder))

    def mend(self):
        """Gives the room and the rights back."""
        _mount("-o", "remount,rw", str(self.folder))
        (self.folder / "filler").unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder, size_mb):
    """Mounts one; skips the test where that is not allowed."""
    if not sys.platform.startswith("linux") or os.geteuid():
        pytest.skip("a small disk can only be mounted by root on Linux")
    folder.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={size_mb}m", "bincount-test", str(folder))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"a small disk cannot be mounted here: {error.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        _run("umount", "-l", str(folder))


def _mount(*arguments):
    _run("mount", *arguments)


def _run(program, *arguments):
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"a small disk needs {program}, and there is none")
    subprocess.run([found, *arguments], check=True, capture_output=True, text=True)
