"""Speed of comparing records with photos, against the loops that a user would write first.

    python -m benchmarks.reconcile [--bins 200] [--repeats 2] [--image-px 224] [--quick] [--json FILE]

A model is trained on 200 real bins (a frozen ResNet50 with random weights). Then three programs run, each in its own
process and in an order that alternates between repeats: `bincount reconcile`, which ends with verdicts, lists and a
report; a loop of Pillow and `model.predict` per photo, its predictions sorted by pandas; and all photos in one array,
predicted at once.
Loading the model is timed, importing libraries is not. The others write a sorted CSV, without verdicts, and cannot be
resumed. Each also compares a single record with its photo, which shows the memory that does not depend on the bins.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.measure import (
    SMALL,
    Ratio,
    Spent,
    bins_at,
    machine,
    paired,
    parser_of,
    publish,
    run_process,
    spread,
    timed,
)
from benchmarks.stage import learning, run_stages, write_records

OURS, LOOP, ARRAY = "bincount reconcile", "model.predict per photo, pandas", "all photos in one array, pandas"


def compare(source: Path, work: Path, *, learned: int, bins: int, repeats: int, image_px: int) -> dict:
    """Time and memory of each contender by repeat."""
    print(f"  training on {learned} bins ...", flush=True)
    _, model = run_stages(work, learning(source, bins=learned, image_px=image_px, trials=1, max_epochs=5))
    _, drawn = run_stages(work, {"ingest": {"source": str(source), "limit": bins}})
    all_records, one_record = work / "records.csv", work / "record.csv"
    counted = write_records(work, drawn["manifest"], all_records)
    one_record.write_text("".join(all_records.read_text().splitlines(keepends=True)[:2]))
    folder = work / "data" / "runs" / model["run_id"] / "model"

    def run(contender: str, records: Path) -> Spent:
        if contender == OURS:
            options = {"source": str(source), "out": str(work / "worklist"), "records": str(records), "capacity": 50}
            return run_stages(work, {"reconcile": {**options, "model": model["model_uri"]}})[0]["reconcile"]
        task = ["--as", contender, str(folder), str(records), str(source), str(work / "sorted.csv")]
        process, output = run_process([sys.executable, "-m", "benchmarks.reconcile", *task])
        wall_s, cpu_s = json.loads(output.splitlines()[-1])
        return Spent(wall_s, cpu_s, process.peak_mb)

    runs: dict[str, list[Spent]] = {OURS: [], LOOP: [], ARRAY: []}
    for repeat in range(repeats):
        for contender in [*runs][::-1] if repeat % 2 else [*runs]:
            runs[contender].append(one := run(contender, all_records))
            print(f"  {contender:32} {counted / one.wall_s:6.1f} bins/s  {one.peak_mb:6,.0f} MB", flush=True)
    single_mb = {}
    for contender in runs:
        single_mb[contender] = run(contender, one_record).peak_mb
        print(f"  {contender:32} {single_mb[contender]:,.0f} MB with a single bin", flush=True)
    return {"bins": counted, "image_px": image_px, "single_bin_mb": single_mb} | {
        name: [asdict(one) for one in all_] for name, all_ in runs.items()
    }


def run_contender(contender: str, model: Path, records: Path, source: Path, out: Path) -> None:
    """Runs the code that a user would write; prints its time."""
    import keras
    import pandas
    from PIL import Image

    def work() -> None:
        network = keras.saving.load_model(model / "model.keras", compile=False)
        side_px = network.input_shape[1]

        def read(bin_id: str) -> np.ndarray:
            with Image.open(source / "bin-images" / f"{bin_id}.jpg") as photo:
                return np.asarray(photo.convert("RGB").resize((side_px, side_px)))

        table = pandas.read_csv(records, dtype={"id": str})
        if contender == ARRAY:
            answers = network.predict(np.stack([read(bin_id) for bin_id in table["id"]]), verbose=0)
        else:
            answers = np.concatenate([network.predict(read(bin_id)[None], verbose=0) for bin_id in table["id"]])
        table["wrong"] = 1 - answers[np.arange(len(table)), table["recorded"] - 1]
        table.sort_values("wrong", ascending=False).to_csv(out, index=False)

    spent = timed(work)
    print(json.dumps([spent.wall_s, spent.cpu_s]))


def ratios_of(results: dict) -> list[Ratio]:
    """Speed and memory of `bincount reconcile` relative to both others."""
    ratios = []
    for other, faster_goal, memory_goal in ((LOOP, "4 or more", "1 or less"), (ARRAY, "", "")):
        faster = paired([one["wall_s"] for one in results[other]], [one["wall_s"] for one in results[OURS]])
        memory = paired([one["peak_mb"] for one in results[OURS]], [one["peak_mb"] for one in results[other]])
        ratios += [
            Ratio.of(f"bins/s, times as many as {other}", faster, faster_goal),
            Ratio.of(f"peak memory, share of {other}", memory, memory_goal),
        ]
    return ratios


def report(results: dict) -> str:
    """The table of measurements."""
    lines = [
        f"{results['bins']:,} bins, {results['image_px']} px, ResNet50.",
        "",
        "| contender | bins/s | processor s | peak MB | peak MB with a single bin |",
        "|---|---|---|---|---|",
    ]
    for name in (OURS, LOOP, ARRAY):
        walls, cpus, peaks = ([one[key] for one in results[name]] for key in ("wall_s", "cpu_s", "peak_mb"))
        rates = spread([results["bins"] / wall_s for wall_s in walls])
        single = f"{results['single_bin_mb'][name]:,.0f}"
        lines.append(f"| {name} | {rates} | {spread(cpus)} | {spread(peaks, ',.0f')} | {single} |")
    lines += [
        "",
        f"`{OURS}` needs memory for OpenVINO or TensorFlow, MLflow, the model, the activations of 32 photos in both",
        "views, and the pixels of at most 256 photos. More bins add nothing (docs/log/reconcile.md).",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__, SMALL)
    parser.add_argument("--bins", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--image-px", type=int, default=224)
    parser.add_argument("--as", nargs=5, dest="role", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        contender, *paths = options.role
        return run_contender(contender, *map(Path, paths))
    here, learned = machine(), 200
    if options.quick:
        options.bins, options.repeats, options.image_px = 60, 1, 64
    with (
        bins_at(options.source, max(learned, options.bins), here) as source,
        tempfile.TemporaryDirectory(prefix="bench-reconcile-") as folder,
    ):
        sizes = {"bins": options.bins, "repeats": options.repeats, "image_px": options.image_px}
        results = compare(source, Path(folder), learned=learned, **sizes)
    return publish(options, ratios_of(results), report(results), results, here)


if __name__ == "__main__":
    main()
