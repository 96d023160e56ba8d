"""Growth of time and memory with the number of bins, projected to the whole bucket.

    python -m benchmarks.growth [--base 100] [--image-px 224] [--quick] [--json FILE]

Ingest reads 2,500, 10,000 and 40,000 bins from a simulated bucket. The other steps run one after the other on 1, 4 and
16 times as many real bins, each in a process of its own; imports are not counted in its time. The exponent is the slope
of a line through the logarithms: 1 is "twice the bins, twice the time", below 1 there is a fixed cost. A projection
extrapolates from the largest size with the cost of a bin between the last two sizes; it is no measurement. Memory that
grew differently between both pairs of sizes is not projected: buffers fill, and then it is constant.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ingest import grow
from benchmarks.measure import SMALL, Ratio, Spent, bins_at, machine, parser_of, publish
from benchmarks.stage import learning, run_stages, write_records

WHOLE = 536_434  # bins in the bucket
STEPS = {"prepare": "extraction", "tune": "search", "evaluate": "evaluation", "reconcile": "reconcile"}
Sizes = dict[int, Spent]
"""Cost of a step by number of bins."""


def measure(source: Path, sizes: Sequence[int], *, image_px: int, max_epochs: int, apart: bool) -> dict[str, Sizes]:
    """Every step on every number of bins; with `apart` each in a process of its own, which shows its peak memory."""
    costs: dict[str, Sizes] = {name: {} for name in STEPS.values()}
    for bins in sizes:
        chain = learning(source, bins=bins, image_px=image_px, trials=5, max_epochs=max_epochs)
        with tempfile.TemporaryDirectory(prefix="bench-growth-") as folder:
            work = Path(folder)
            so_far: dict[str, Any] = {}
            for together in [{verb: arguments} for verb, arguments in chain.items()] if apart else [chain]:
                _run(work, together, so_far, bins, costs)
            write_records(work, so_far["manifest"], work / "records.csv")
            arguments = {"source": str(source), "records": str(work / "records.csv"), "model": so_far["model_uri"]}
            arguments |= {"out": str(work / "worklist"), "capacity": 50}
            _run(work, {"reconcile": arguments}, so_far, bins, costs)
    return costs


def _run(work: Path, together: dict, so_far: dict[str, Any], bins: int, costs: dict[str, Sizes]) -> None:
    """Runs steps in one process, prints their cost and adds it and their answers."""
    took, answers = run_stages(work, together, so_far)
    so_far |= answers
    for verb, spent in took.items():
        print(f"  {bins:6,} bins  {verb:10} {spent.wall_s:7.1f} s  {spent.peak_mb:6,.0f} MB", flush=True)
        if verb in STEPS:
            costs[STEPS[verb]][bins] = spent


def exponent_of(values: dict[int, float]) -> float:
    """The slope of a line through the logarithms of both."""
    return float(np.polyfit(np.log([*values]), np.log([*values.values()]), 1)[0])


def projected(values: dict[int, float], bins: int = WHOLE) -> float:
    """The cost of this number of bins, if a further bin costs what it cost between the last two sizes."""
    (fewer, before), (most, after) = sorted(values.items())[-2:]
    return after + max(0.0, after - before) / (most - fewer) * (bins - most)


def grows_steadily(values: dict[int, float]) -> bool:
    """True if a further bin has cost about the same, within a factor of three, between each two sizes."""
    pairs = list(pairwise(sorted(values.items())))
    costs = [(after - before) / (more - fewer) for (fewer, before), (more, after) in pairs]
    return min(costs) > 0 and max(costs) < 3 * min(costs)


def ratios_of(costs: dict[str, Sizes]) -> list[Ratio]:
    """The exponents of time and memory, each from one fit."""
    ratios = []
    for name, sizes in costs.items():
        for what, key in (("processor time", "cpu_s"), ("peak memory", "peak_mb")):
            exponent = exponent_of({bins: getattr(spent, key) for bins, spent in sizes.items()})
            ratios.append(Ratio.of(f"exponent of {name}'s {what}", [exponent]))
    return ratios


def report(costs: dict[str, Sizes]) -> str:
    """The figures behind the exponents, and the projection."""
    lines = [
        "An exponent of 1 means twice the bins, twice the cost; below 1, there is a fixed cost.",
        "",
        "| step | bins | s | processor s | peak MB |",
        "|---|---|---|---|---|",
    ]
    for name, sizes in costs.items():
        for bins, spent in sizes.items():
            cells = f"{spent.wall_s:,.1f} | {spent.cpu_s:,.1f} | {spent.peak_mb:,.0f}"
            lines.append(f"| {name} | {bins:,} | {cells} |")
    lines += [
        "",
        f"**A projection**, not a measurement: all {WHOLE:,} bins on this machine.",
        "",
        "| step | hours | peak GB |",
        "|---|---|---|",
    ]
    for name, sizes in costs.items():
        hours = projected({bins: spent.wall_s for bins, spent in sizes.items()}) / 3600
        peaks = {bins: spent.peak_mb for bins, spent in sizes.items()}
        memory = f"{projected(peaks) / 1024:,.1f}" if grows_steadily(peaks) else "no steady growth"
        lines.append(f"| {name} | {hours:,.2f} | {memory} |")
    lines += [
        "",
        "Ingest read from this machine, photos of 5 KB; over a network see `docs/log/ingest.md`. The search's epochs",
        "end early, at different times for different bins. Evaluation is of the test part, 15 of 100 bins. Memory is",
        "projected only if a further bin cost about the same between each two sizes.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__, SMALL)
    parser.add_argument("--base", type=int, default=100, help="bins of the smallest size; the largest is 16 times that")
    parser.add_argument("--image-px", type=int, default=224)
    options = parser.parse_args()
    here, max_epochs = machine(), 20
    sizes: tuple[int, ...] = (2_500, 10_000, 40_000)
    if options.quick:
        options.image_px, sizes, max_epochs = 32, (1_000, 2_000), 5
    costs = {"ingest": {run.photos: Spent(run.wall_s, run.cpu_s, run.peak_mb) for run in grow(sizes)}}
    bins = [options.base * times for times in ((1, 4) if options.quick else (1, 4, 16))]
    with bins_at(options.source, bins[-1], here) as source:
        costs |= measure(source, bins, image_px=options.image_px, max_epochs=max_epochs, apart=not options.quick)
    measured = {name: {bins: asdict(spent) for bins, spent in sizes.items()} for name, sizes in costs.items()}
    publish(options, ratios_of(costs), report(costs), measured, here)


if __name__ == "__main__":
    main()
