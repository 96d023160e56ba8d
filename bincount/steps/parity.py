"""Whether a model may be served in bfloat16: half the bits must not change what it says."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bincount.core.answers import SAME_WITHIN_BFLOAT16

if TYPE_CHECKING:
    from bincount.learn.predict import Predictor

_log = logging.getLogger(__name__)


def parity_of(exact: Predictor, fast: Predictor, golden: Sequence[bytes], more: Sequence[bytes]) -> bool | None:
    """Compares a model's answers in bfloat16 with those in float32.

    Args:
        exact: The model in float32.
        fast: The same in bfloat16.
        golden: Photos whose counts must be the same, too: servers are asked for them.
        more: Photos whose probabilities must be at most 0.02 apart, as those of the golden ones.

    Returns:
        Whether it passed; None where this machine's processor has no bfloat16.
    """
    if not fast.bfloat16:
        return None
    ours, theirs = exact.predict([*golden, *more]), fast.predict([*golden, *more])
    apart = float(abs(ours - theirs).max())
    same = np.array_equal(ours[: len(golden)].argmax(axis=1), theirs[: len(golden)].argmax(axis=1))
    passed = same and apart <= SAME_WITHIN_BFLOAT16
    _log.info("bfloat16: probabilities of %d photos differ by up to %.4f: passed: %s", len(ours), apart, passed)
    return bool(passed)
