"""What a disk refuses, in bincount's words; on real disks: tests/faults/test_disk.py."""

import errno
from pathlib import Path

import pytest

from bincount.errors import ConfigError, DataError
from bincount.files import explain_disk_errors


class ResourceExhaustedError(Exception):
    """TensorFlow's says it in words alone, and is no OSError."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "x"), "/room: must be writable and have room, got 'No space left on device'"),
        (OSError(errno.EROFS, "x", "/room/a"), "/room/a: must be writable and have room, got 'Read-only file system'"),
        (PermissionError(errno.EACCES, "x", "/room/a"), "/room/a: .* got 'Permission denied'"),
        (OSError("Not enough free space to write 9 bytes"), "/room: .* got 'Not enough free space'"),
        (ResourceExhaustedError("/room/x; No space left on device"), "/room: .* got 'No space left on device'"),
    ],
)
def test_a_disk_that_takes_no_more_is_a_wrong_setting(error, words):
    with pytest.raises(ConfigError, match=words) as caught, explain_disk_errors(Path("/room")):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "x"), ValueError("x"), FileNotFoundError(errno.ENOENT, "x"), DataError("a: b, got c.")]
)
def test_everything_else_stays_what_it_is(error):
    with pytest.raises(type(error)) as caught, explain_disk_errors(Path("/room")):
        raise error
    assert caught.value is error
