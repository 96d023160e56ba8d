"""Feature extraction against the bare TensorFlow network.

    python -m benchmarks.extraction [--photos 320] [--repeats 5] [--image-px 224] [--quick] [--json FILE]

Extraction as `prepare` does it (ResNet50 with random weights, both views, from shards, through the inference engine)
is timed in turns with the same network as a compiled TensorFlow graph in float32, on photos that are ready in memory.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import ORIGINALS, Ratio, bins_at, machine, paired, parser_of, publish, spread

_BATCH = 32


def compare_extraction(source: Path, folder: Path, photos: int, repeats: int, image_px: int) -> list[dict]:
    """Photos a second of extraction and of the bare TensorFlow network, in turns, after one of each uncounted."""
    from bincount.dataset.ingest import collect
    from bincount.dataset.manifest import read_manifest
    from bincount.learn.backbone import build_backbone
    from bincount.learn.engine import open_network, save_network
    from bincount.learn.feature_extraction import engine_forward, extract_features, keras_forward
    from bincount.learn.photo_batches import load_photos
    from bincount.settings import Settings

    settings = Settings(folder, "", folder)
    manifest = read_manifest(settings, collect(settings, source=str(source), limit=photos)["manifest"])
    shards = {shard: settings.shards / shard.name for shard in manifest.shards}
    model = build_backbone("ResNet50", "none", image_px=image_px).model
    ready = load_photos(manifest.records[:_BATCH], list(shards.values()), image_px=image_px, fit="pad")
    save_network(model, folder / "backbone.keras", ready[:1])
    network = open_network(folder / "backbone.keras")
    forward, keras = engine_forward(network), keras_forward(model, image_px)
    batches = -(-len(manifest.records) // _BATCH)

    def bare() -> None:
        for _ in range(batches):
            keras(ready)

    runs = []
    for repeat in range(repeats + 1):
        began: list[float] = []

        def extract(repeat: int = repeat, began: list[float] = began) -> None:
            # From the first batch on: compiling is done once for hundreds of thousands of photos.
            extract_features(
                folder / f"features{repeat}", shards, forward, width=model.output.shape[1], image_px=image_px,
                fit="pad",
                on_progress=lambda done, total, rate: began.append(time.monotonic()) if not began else None,
            )  # fmt: skip

        kinds: list[tuple[str, Callable[[], None]]] = [("bare", bare), ("extraction", extract)]
        for name, work in kinds[::-1] if repeat % 2 else kinds:
            started_s = time.monotonic()
            work()
            first_s = began[0] if name == "extraction" else started_s
            counted = len(manifest.records) - (_BATCH if name == "extraction" else 0)
            if name == "bare":
                counted = batches * _BATCH
            if repeat:
                runs.append(
                    {
                        "what": name,
                        "rate": counted / (time.monotonic() - first_s),
                        "photos": counted,
                        "engine": f"{network.library}, {network.precision}",
                    }
                )
    return runs


def main() -> None:
    parser = parser_of(__doc__, ORIGINALS)
    parser.add_argument("--photos", type=int, default=320, help="of each extraction")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--image-px", type=int, default=224)
    options = parser.parse_args()
    here = machine()
    if options.quick:
        options.photos, options.repeats, options.image_px = 96, 1, 64
    with (
        bins_at(options.source, options.photos, here) as source,
        tempfile.TemporaryDirectory(prefix="bench-extraction-") as folder,
    ):
        runs = compare_extraction(source, Path(folder), options.photos, options.repeats, options.image_px)
    rates = {name: [run["rate"] for run in runs if run["what"] == name] for name in ("extraction", "bare")}
    shares = paired(rates["extraction"], rates["bare"])
    report = (
        f"ResNet50, {options.image_px} px, both views of each photo: extraction ({runs[0]['engine']}) "
        f"{spread(rates['extraction'])}, the bare TensorFlow network {spread(rates['bare'])} photos/s."
    )
    publish(options, [Ratio.of("extraction / bare TensorFlow network", shares, "2.5 or more")], report, runs, here)


if __name__ == "__main__":
    main()
