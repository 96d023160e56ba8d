"""Pictures in the report: whether the heat map is where the count comes from, and whether similar bins hold as many.

    python -m benchmarks.report_pictures --run RUN [--bins 200] [--seed 0]

RUN is a trained run in the workspace that BINCOUNT_WORKSPACE names. For test bins, a third of the photo's width and
height is blurred where the occlusion map is hottest, and at random: the hot region must move the expected count
further. The map itself hides in the mean colour. Similar bins of all test bins are searched for among bins learned
from, which stand for counted ones.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from PIL import Image, ImageFilter

from bincount.dataset.manifest import Record, read_manifest
from bincount.dataset.shards import photos_of
from bincount.dataset.split import LEARNED_PARTS
from bincount.evaluate.batch_inference import model_of
from bincount.learn.occlusion import CELLS, occlusion_map
from bincount.learn.predictor import Predictor
from bincount.reconcile.report_pictures import MOST_CONFIRMED, SIMILAR, most_alike
from bincount.settings import Settings

_CELLS = 2  # on a side of the hidden region
_SIDE = _CELLS / CELLS
_BLUR_PX = 12


def blurred(square: np.ndarray, box: tuple[slice, slice], top: float, left: float) -> np.ndarray:
    """A decoded photo with a third of each side blurred, from shares `top` and `left` of the photo's sides on."""
    smooth = np.asarray(Image.fromarray(square).filter(ImageFilter.GaussianBlur(_BLUR_PX)))
    changed = square.copy()
    height, width = changed[box].shape[:2]
    rows, columns = (slice(round(at * side), round((at + _SIDE) * side)) for at, side in ((top, height), (left, width)))
    changed[box][rows, columns] = smooth[box][rows, columns]
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--bins", type=int, default=200, help="with a map (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    settings, rng = Settings.from_env(), np.random.default_rng(options.seed)
    folder, facts = model_of(settings, options.run)
    manifest, predictor = read_manifest(settings, facts["manifest"]), Predictor(folder)

    def drawn(records: list[Record], most: int) -> tuple[list[bytes], np.ndarray]:
        rows = sorted(rng.choice(len(records), min(most, len(records)), replace=False))
        some = [records[row] for row in rows]
        return list(photos_of(settings, manifest, some)), np.array([record.recorded for record in some])

    photos, recorded = drawn(manifest.part("test"), options.bins)
    began = time.monotonic()
    falls = [occlusion_map(predictor, photo) for photo in photos]
    print(f"{len(photos)} maps, {(time.monotonic() - began) / len(photos) * 1000:.0f} ms each")
    changes = np.array([changes_of(predictor, *each, rng) for each in zip(photos, falls, strict=True)])
    hot, random = abs(changes).T
    print(f"change of the expected count by blurring: hot region {hot.mean():.3f}, random region {random.mean():.3f}")
    print(f"hot region changes it further in {(hot > random).mean():.1%} of bins")
    photos, recorded = drawn(manifest.part("test"), len(manifest.part("test")))
    pool, counts = drawn([record for part in LEARNED_PARTS for record in manifest.part(part)], MOST_CONFIRMED)
    alike = most_alike(*predictor.outputs(pool), *predictor.outputs(photos))[:, :SIMILAR]
    for name, rows in (("similar", alike), ("random", rng.integers(0, len(pool), alike.shape))):
        off = abs(counts[rows] - recorded[:, None])
        print(f"{name} bins: {off.mean():.2f} items off on average, same count {(off == 0).mean():.1%}")


def changes_of(predictor: Predictor, photo: bytes, falls: np.ndarray, rng: np.random.Generator) -> list[float]:
    """Fall of the expected count by blurring the hottest region, and a random one."""
    square, box = predictor.decode(photo)
    places = CELLS - _CELLS + 1
    heat = [falls[at // places :, at % places :][:_CELLS, :_CELLS].sum() for at in range(places**2)]
    regions = int(np.argmax(heat)), int(rng.integers(places**2))
    shown = [square, *(blurred(square, box, at // places / CELLS, at % places / CELLS) for at in regions)]
    expected = predictor.predict_decoded(shown) @ np.asarray(predictor.counts.values)
    return list(expected[0] - expected[1:])


if __name__ == "__main__":
    main()
