"""Time of a search on features that are computed once, against the network in every step.

    python -m benchmarks.search [--bins 2000] [--trials 5] [--max-epochs 50] [--weights none] [--quick] [--json FILE]

Ours: a frozen ResNet50 computes each photo's features once, both views of it, then KerasTuner searches learning rate,
batch size and epochs on them. The seed's way: photos through tf.data, the whole frozen ResNet50 and a head on its last
stage in every step of every trial. That would take hours, so its rate is measured on a slice, the fastest of three
counts, and scaled to what our trials did: the same photos, the same epochs. Its validation NLL needs no scaling: a
frozen network gives the same features each time, so its heads are trained on features that are computed once, with
our trials' hyperparameters. Wall time and processor time are measured; on a busy machine the latter is more reliable.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import SMALL, Ratio, Spent, bins_at, machine, parser_of, publish, timed
from benchmarks.search_seed import seed_head, seed_slices, whole_network


@dataclass
class Trial:
    """One trial of ours: its hyperparameters, how many epochs it ran, and its score."""

    learning_rate: float
    batch_size: int
    epochs: int
    ran: int
    val_nll: float


def compare(
    source: Path, work: Path, *, bins: int, trials: int, max_epochs: int, image_px: int, weights: str, slices: int
) -> dict:
    """Both ways on the same bins; returns all measurements, JSON-ready."""
    from bincount.dataset.ingest import collect
    from bincount.dataset.manifest import read_manifest
    from bincount.learn.backbone import STATISTICS_PHOTOS, build_backbone, set_statistics
    from bincount.learn.feature_extraction import extract_features, keras_forward, read_examples
    from bincount.learn.photo_batches import load_photos
    from bincount.learn.search import search_heads
    from bincount.settings import Settings

    settings = Settings(work, "", work)
    manifest = read_manifest(settings, collect(settings, source=str(source), limit=bins)["manifest"])
    shards = [settings.shards / shard.name for shard in manifest.shards]
    train, validation = manifest.part("train"), manifest.part("validation")
    seen = load_photos(train[:STATISTICS_PHOTOS], shards, image_px=image_px, fit="squash")
    backbone = build_backbone("ResNet50", weights, image_px=image_px)
    if weights == "none":
        set_statistics(backbone, seen)

    def extract(model: Any, to: str) -> Spent:
        pairs = dict(zip(manifest.shards, shards, strict=True))
        forward, width = keras_forward(model, image_px), model.output.shape[1]
        return timed(lambda: extract_features(work / to, pairs, forward, width=width, image_px=image_px, fit="squash"))

    extraction = extract(backbone.model, "ours")
    ran: dict[str, int] = {}
    ended: list[Trial] = []

    def on_trial(trial: str, chosen: Mapping[str, Any], status: str, score: float | None) -> None:
        ended.append(Trial(**chosen, ran=ran[trial], val_nll=math.nan if score is None else score))

    def search() -> None:
        search_heads(
            work / "search",
            read_examples(work / "ours", manifest, "train"),
            read_examples(work / "ours", manifest, "validation"),
            len(manifest.counts),
            data=manifest.digest,
            trials=trials,
            max_epochs=max_epochs,
            seed=0,
            on_epoch=lambda trial, epoch, metrics: ran.update({trial: epoch + 1}),
            on_trial=on_trial,
        )

    searched = timed(search)
    seed_network = whole_network(image_px, weights, seen)
    slice_runs = seed_slices(source, [record.id for record in train], seed_network, image_px, slices)
    extract(seed_network, "seed")
    parts = [read_examples(work / "seed", manifest, part) for part in ("train", "validation")]
    seed_nll = min(
        seed_head(*parts, learning_rate=one.learning_rate, batch_size=one.batch_size, epochs=one.epochs)
        for one in ended
    )
    return {
        "bins": len(manifest.records),
        "train": len(train),
        "validation": len(validation),
        "image_px": image_px,
        "weights": weights,
        "max_epochs": max_epochs,
        "extraction": asdict(extraction),
        "search": asdict(searched),
        "trials": [asdict(trial) for trial in ended],
        "slices": slice_runs,
        "val_nll": min(trial.val_nll for trial in ended),
        "seed_val_nll": seed_nll,
        "prior_nll": prior_nll([record.recorded for record in validation]),
    }


def prior_nll(recorded: Sequence[int]) -> float:
    """NLL of the class frequencies of the same bins."""
    shares = np.unique(recorded, return_counts=True)[1] / len(recorded)
    return float(-(shares * np.log(shares)).sum())


def best_rate(runs: Sequence[dict], clock: str) -> float:
    """Photos a second of the fastest slice."""
    return max(one["photos"] / one[clock] for one in runs)


def seed_s(results: dict, clock: str, epochs: int) -> float:
    """The seed's way scaled: that many passes over the training and the validation photos, at the slice's best rate."""
    rates = {kind: best_rate(runs, clock) for kind, runs in results["slices"].items()}
    return epochs * (results["train"] / rates["train"] + results["validation"] / rates["validation"])


def ratios_of(results: dict) -> list[Ratio]:
    """The answers, by the clock and in processor time."""
    ran, most = sum(trial["ran"] for trial in results["trials"]), len(results["trials"]) * results["max_epochs"]
    ratios = []
    for clock, name in (("wall_s", "by the clock"), ("cpu_s", "in processor time")):
        ours = results["extraction"][clock] + results["search"][clock]
        share = results["search"][clock] / results["extraction"][clock]
        faster = {epochs: seed_s(results, clock, epochs) / ours for epochs in (most, ran)}
        ratios += [
            Ratio.of(f"times faster, all {most} epochs that the trials may run, {name}", [faster[most]], "80 or more"),
            Ratio.of(f"times faster, the {ran} epochs that our trials did run, {name}", [faster[ran]]),
            Ratio.of(f"search as a share of extraction, {name}", [share], "under 0.1"),
        ]
    worse = results["val_nll"] - results["seed_val_nll"]
    return [*ratios, Ratio.of("validation NLL, ours less the seed's way", [worse], "0 or less")]


def report(results: dict) -> str:
    """The figures behind the ratios."""
    most = len(results["trials"]) * results["max_epochs"]
    lines = ["| | by the clock | processor |", "|---|---|---|"]

    def row(name: str, value: Callable[[str], float]) -> None:
        lines.append(f"| {name} | {' | '.join(format(value(clock), '.1f') for clock in ('wall_s', 'cpu_s'))} |")

    row(f"ours: extraction of {results['bins']} bins, both views, s", lambda c: results["extraction"][c])
    row(f"ours: search, {len(results['trials'])} trials, s", lambda c: results["search"][c])
    for kind, runs in results["slices"].items():
        row(f"seed's {kind}, photos/s", partial(best_rate, runs))
    lines += [
        "",
        f"Scaled: {results['train']} training and {results['validation']} validation photos an epoch at the seed's "
        f"rates, each the best of {len(results['slices']['train'])} slices of "
        f"{results['slices']['train'][0]['photos']} photos; "
        f"all {most} epochs would take it {seed_s(results, 'wall_s', most) / 3600:.1f} h.",
        f"Validation NLL: ours {results['val_nll']:.3f}, the seed's way {results['seed_val_nll']:.3f}, "
        f"class prior {results['prior_nll']:.3f}; weights {results['weights']}, {results['image_px']} px.",
        "With random weights our network ends after its third stage, the seed's does not; two views a photo.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__, SMALL)
    parser.add_argument("--bins", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--max-epochs", type=int, default=50)
    parser.add_argument("--image-px", type=int, default=224)
    parser.add_argument("--weights", choices=["none", "imagenet"], default="none")
    options = parser.parse_args()
    here = machine()
    if options.quick:
        options.bins, options.trials, options.max_epochs, options.image_px = 200, 2, 5, 64
    with (
        bins_at(options.source, options.bins, here) as source,
        tempfile.TemporaryDirectory(prefix="bench-search-") as folder,
    ):
        results = compare(
            source,
            Path(folder),
            bins=options.bins,
            trials=options.trials,
            max_epochs=options.max_epochs,
            image_px=options.image_px,
            weights=options.weights,
            slices=1 if options.quick else 3,
        )
    publish(options, ratios_of(results), report(results), results, here)


if __name__ == "__main__":
    main()
