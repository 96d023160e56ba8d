"""Photos small enough to be looked at in a report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import closing

from PIL import Image

from bincount.edge.store import Store
from bincount.steps.reconciling.scoring import problem_of

_SIDE_PX = 360
_QUALITY = 72
_WORKERS = 16


def reduced_photos(store: Store, ids: Sequence[str]) -> dict[str, bytes]:
    """Fetches photos and reduces them to 360 px; what cannot be had by now is left out.

    Args:
        store: Where they are.
        ids: Bins' ids.

    Returns:
        A JPEG of about 12 kB by id.

    Raises:
        StoreError: If the source does not answer.
    """
    found = {}
    keys = (f"bin-images/{bin_id}.jpg" for bin_id in ids)
    with closing(store.fetch(keys, workers=_WORKERS)) as answers:
        for bin_id, answer in zip(ids, answers, strict=True):
            if not problem_of(bin_id, answer) and (small := _reduced(answer.data or b"")):
                found[bin_id] = small
    return found


def _reduced(photo: bytes) -> bytes | None:
    try:
        with Image.open(io.BytesIO(photo), formats=["JPEG"]) as image:
            image.draft("RGB", (_SIDE_PX, _SIDE_PX))
            small = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    small.thumbnail((_SIDE_PX, _SIDE_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
