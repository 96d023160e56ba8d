"""Small bins in shards, as ingest leaves them, that a few epochs can learn to count."""

import hashlib
import io
import json

import numpy as np
from PIL import Image

from bincount.counts import Counts
from bincount.dataset.manifest import Manifest, Record, Shard
from bincount.dataset.shards import encode_example, frame_record

PX = 32


def photo_of(count: int, rng: np.random.Generator) -> bytes:
    """A PNG with `count` bright squares on a dark ground: something a few epochs can learn."""
    pixels = rng.integers(0, 60, (PX, PX, 3), np.uint8)
    for place in rng.permutation(16)[:count]:
        top, left = 8 * (place // 4), 8 * (place % 4)
        pixels[top : top + 6, left : left + 6] = rng.integers(180, 256, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def metadata_of(count: int) -> bytes:
    """Metadata of a bin that holds `count` of one product."""
    inches = {
        name: {"unit": "IN", "value": value} for name, value in (("length", 5.0), ("width", 4.0), ("height", 3.0))
    }
    product = {"quantity": count, "weight": {"unit": "pounds", "value": 0.5}, **inches}
    return json.dumps({"EXPECTED_QUANTITY": count, "BIN_FCSKU_DATA": {"B0": product}}).encode()


def write_bins(workspace, *, bins: int = 120, shards: int = 3, seed: int = 0) -> str:
    """Writes shards and a manifest of made bins; gives its digest."""
    rng = np.random.default_rng(seed)
    parts = rng.choice(["train", "validation", "calibration", "test"], bins, p=[0.6, 0.2, 0.1, 0.1])
    (workspace / "shards").mkdir(parents=True, exist_ok=True)
    records, written = [], []
    for numbers in np.array_split(np.arange(bins), shards):
        content = bytearray()
        for number in numbers:
            count, bin_id = int(rng.integers(1, 6)), f"{number:05d}"
            image = photo_of(count, rng)
            records.append(
                Record(
                    id=bin_id,
                    group=bin_id,
                    recorded=count,
                    part=str(parts[number]),
                    n_skus=count,
                    width_px=PX,
                    height_px=PX,
                    size_bytes=len(image),
                    etag="",
                    shard=len(written),
                    offset=len(content),
                )
            )
            content += frame_record(
                encode_example(bin_id=bin_id, recorded=count, image=image, metadata=metadata_of(count))
            )
        sha256 = hashlib.sha256(content).hexdigest()
        (workspace / "shards" / f"{sha256[:16]}.tfrecord").write_bytes(content)
        written.append(Shard(f"{sha256[:16]}.tfrecord", sha256, len(content)))
    return Manifest("made", Counts.parse("1-5"), written, records).write(workspace / "manifests")
