"""Memory of a search on the features of the whole bucket.

    python -m benchmarks.search_memory [--quick] [--json FILE]

A trial of one epoch on random numbers in the shape of the whole bucket's features (2,048 a photo, two views): learned
from 65 of 100 bins and judged on 10 of 100, in a process of its own. What `tune` needs beside it, it needs for few bins
too. Features lie in a temporary file of 3.3 GB for the whole bucket; TMPDIR says where.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from benchmarks.measure import Ratio, Spent, machine, parser_of, publish, run_process
from bincount.learn.feature_extraction import VIEWS, Examples, map_arrays

WHOLE = 536_434  # bins in the bucket
_WIDTH = 2048
_PIECE = 2048


def learn(bins: int) -> None:
    """One epoch of one trial."""
    from bincount.learn.head_training import fit_head
    from bincount.learn.model import Hyperparameters

    train, validation = (_examples(round(share * bins), seed) for seed, share in enumerate((0.65, 0.10)))
    fit_head(train, validation, 5, Hyperparameters(learning_rate=1e-3, batch_size=256, epochs=1), seed=0)


def _examples(bins: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    piece = rng.normal(size=(_PIECE, VIEWS, _WIDTH)).astype(np.float16)

    def pieces() -> Iterator[np.ndarray]:
        for start in range(0, bins, _PIECE):
            yield piece[: bins - start]

    return Examples(map_arrays(pieces()), rng.integers(0, 5, bins).astype(np.int32))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--as", type=int, dest="bins", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bins:
        return learn(options.bins)
    here, found = machine(), dict[int, Spent]()
    for bins in (2_000, 4_000) if options.quick else (5_000, 50_000, WHOLE):
        found[bins], _ = run_process([sys.executable, "-m", "benchmarks.search_memory", "--as", str(bins)])
        print(f"  {bins:7,} bins  {found[bins].wall_s:6.0f} s  {found[bins].peak_mb:6,.0f} MB", flush=True)
    lines = ["| bins | peak MB | s for one epoch, imports included |", "|---|---|---|"]
    lines += [f"| {bins:,} | {spent.peak_mb:,.0f} | {spent.wall_s:,.0f} |" for bins, spent in found.items()]
    ratios = [Ratio.of("GB at the peak, whole bucket", [found[max(found)].peak_mb / 1024], "at most 4")]
    measured = {bins: asdict(spent) for bins, spent in found.items()}
    return publish(options, ratios, "\n".join(lines), measured, here)


if __name__ == "__main__":
    main()
