"""When an ingest must not go on: too many faulty bins, too little disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from bincount.core.errors import ConfigError, DataError
from bincount.core.rejected import Rejected, count_reasons

# What a workspace needs besides: manifest, features of a first run, logs.
_SPARE_BYTES = 200_000_000


def check_rejected(rejected: Sequence[Rejected], bins: int, max_rejected: float) -> None:
    """Checks that few enough bins are faulty.

    Args:
        rejected: What was set aside; siblings do not count.
        bins: Number of bins that they are a share of, themselves included.
        max_rejected: Largest share, 0 to 1.

    Raises:
        DataError: If more are; the message shows the reasons by frequency.
    """
    faulty = [one for one in rejected if one.is_fault]
    if len(faulty) > max_rejected * bins:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in count_reasons(faulty).items())
        check_share(len(faulty), bins, max_rejected, f"{reasons}; the first is {faulty[0].id!r}")


def check_share(faulty: int, bins: int, max_rejected: float, which: str) -> None:
    """Checks a number of faulty bins against the largest share of all bins.

    Raises:
        DataError: If it is larger; the message says `which` they are.
    """
    if faulty > max_rejected * bins:
        raise DataError(
            f"--max-rejected: at most {max_rejected:.2%} of {bins:,} bins may be faulty, got {faulty:,}: {which}. "
            "Nothing was published; mend the bucket, or raise --max-rejected."
        )


def check_room(folder: Path, needed_bytes: int) -> None:
    """Checks that the disk has room for what will be fetched.

    Raises:
        ConfigError: If it has not.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes + _SPARE_BYTES:
        raise ConfigError(
            f"{folder}: must have room for {(needed_bytes + _SPARE_BYTES) / 1e9:.1f} GB, "
            f"got {free_bytes / 1e9:.1f} GB. "
            "Free some, take fewer bins with --limit, or move BINCOUNT_WORKSPACE to a larger disk."
        )
