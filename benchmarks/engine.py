"""Speed of a network in each library and precision: OpenVINO in bfloat16 and float32, TensorFlow in float32.

    python -m benchmarks.engine [--repeats 5] [--quick] [--json FILE]

Untrained networks at 224 px, photos ready in memory, one process. The three take turns; each figure is
the median of its turns. Float32 is what processors without bfloat16 get.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import Ratio, machine, paired, parser_of, publish
from benchmarks.serving_contenders import PX, write_model
from bincount.learn.engine import BFLOAT16, FLOAT32, KerasNetwork, Network, OpenVinoNetwork, has_bfloat16, load_keras

BATCHES = (1, 8, 16, 32)
TENSORFLOW = "TensorFlow float32"


def ms_a_photo(network: Network, photos: np.ndarray) -> float:
    began = time.perf_counter()
    network(photos)
    return 1e3 * (time.perf_counter() - began) / len(photos)


def measure(model: Path, repeats: int) -> dict[tuple[str, int], list[float]]:
    """Milliseconds a photo by contender and batch size."""
    networks: dict[str, Network] = {TENSORFLOW: KerasNetwork(load_keras(model / "model.keras"))}
    for precision in (FLOAT32, BFLOAT16) if has_bfloat16() else (FLOAT32,):
        networks[f"OpenVINO {precision}"] = OpenVinoNetwork(model / "model.xml", precision)
    found: dict[tuple[str, int], list[float]] = {}
    for batch in BATCHES:
        photos = np.random.default_rng(0).integers(0, 256, (batch, PX, PX, 3), np.uint8)
        for name, network in networks.items():
            network(photos)  # the first time at a batch size is slow
            found[name, batch] = []
        for _ in range(repeats):
            for name, network in networks.items():
                found[name, batch].append(ms_a_photo(network, photos))
    return found


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each (default: 5)")
    options = parser.parse_args()
    here, results = machine(), {}
    with tempfile.TemporaryDirectory(prefix="bench-engine-") as place:
        for backbone in ("ResNet50", "EfficientNetLite0"):
            write_model(Path(place) / backbone, backbone)
            results[backbone] = measure(Path(place) / backbone, 1 if options.quick else options.repeats)
    lines, ratios = ["| network, batch | ms a photo | | |", "|---|---|---|---|"], []
    for backbone, found in results.items():
        names = list(dict.fromkeys(name for name, _ in found))
        for batch in BATCHES:
            cells = [f"{name} {statistics.median(found[name, batch]):.2f}" for name in names]
            lines.append(f"| {backbone}, {batch} | {' | '.join(cells)} |")
            for name in names[1:]:
                times = paired(found[name, batch], found[TENSORFLOW, batch])
                goal = "1 or less" if name.endswith(FLOAT32) else ""
                ratios.append(Ratio.of(f"{backbone}, batches of {batch}: {name} / {TENSORFLOW}", times, goal))
    measured = {
        f"{backbone}, {name}, {batch}": times
        for backbone, found in results.items()
        for (name, batch), times in found.items()
    }
    publish(options, ratios, "\n".join(lines), measured, here)


if __name__ == "__main__":
    main()
