"""Accuracy on bins that a model has not seen, by block-wise cross-validation.

    python -m benchmarks.accuracy --source ../shared/abid-224 [--folds 3] [--json FILE] [what a run takes]

Blocks of 20 ids are dealt to the folds; each fold is the test part of a model that learns from the others, by the same
steps as `bincount run`. The predictions of all models for their own folds are pooled, so every bin is scored once; the
figures of pairs and of contents are means over the folds, weighted by their pairs and bins. A killed run continues.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from bincount.dataset.groups import block_of
from bincount.dataset.manifest import Manifest, Record, read_manifest
from bincount.dataset.split import AUXILIARY, DEVELOPMENT_PARTS, LEARNED_PARTS, PART_FRACTIONS
from bincount.evaluate.count_metrics import evaluate_predictions, truth_of
from bincount.evaluate.detection_metrics import PLANTED, evaluate_detection
from bincount.mismatch.calibration import prior_of
from bincount.settings import Settings
from bincount.tracking import runs


def folds_of(manifest: Manifest, folds: int, seed: int) -> Iterator[Manifest]:
    """The same bins once a fold, with that fold as the test part; a group is in the fold of its first bin."""
    blocks = sorted({block_of(record.group) for record in manifest.records})
    order = np.random.default_rng(seed).permutation(len(blocks))
    position_of = {blocks[block]: position for position, block in enumerate(order)}
    learned = sum(PART_FRACTIONS[part] for part in DEVELOPMENT_PARTS)
    ends = np.cumsum([PART_FRACTIONS[part] / learned for part in DEVELOPMENT_PARTS])

    def part_in(fold: int, record: Record) -> str | None:
        turn, own = divmod(position_of[block_of(record.group)], folds)
        if own == fold:
            return "test" if record.part != AUXILIARY else None
        # The blocks of a turn share a position between 0 and 1; the golden ratio spreads the turns evenly.
        part = DEVELOPMENT_PARTS[
            int(np.searchsorted(ends, (turn * 0.618034 + own / folds) % 1.0).clip(0, len(DEVELOPMENT_PARTS) - 1))
        ]
        if record.part == AUXILIARY:
            return AUXILIARY if part in LEARNED_PARTS else None
        return part

    for fold in range(folds):
        parts = [(record, part_in(fold, record)) for record in manifest.records]
        records = [replace(record, part=part) for record, part in parts if part]
        yield replace(manifest, records=records)


def learn_fold(settings: Settings, manifest: Manifest, name: str, options: argparse.Namespace) -> dict:
    """Trains on one fold's learned parts and scores its test part; finished steps are not repeated.

    Returns:
        `records` in the order of `probabilities`; `covered`, whether each prediction set holds the record; and
        `evaluation`, what the step `evaluate` wrote.
    """
    from bincount.evaluate.batch_inference import model_of
    from bincount.evaluate.evaluate import evaluate_run, read_evaluation
    from bincount.learn.predictor import Predictor
    from bincount.learn.prepare import prepare
    from bincount.learn.train import train
    from bincount.learn.tune import tune
    from bincount.registry.register import calibrate

    digest = manifest.write(settings.manifests)
    run_id = runs.open_run(settings, attempt=f"{name} of {digest}, {options.fine_tune_epochs} epochs")
    chosen = {name: getattr(options, name) for name in ("backbone", "weights", "fit", "image_px", "seed")}
    prepared = prepare(settings, run_id=run_id, manifest=digest, **chosen)["features"]
    tune(settings, run_id=run_id, features=prepared, max_epochs=options.max_epochs, seed=options.seed)
    train(settings, run_id=run_id, features=prepared, seed=options.seed, fine_tune_epochs=options.fine_tune_epochs)
    evaluate_run(settings, run_id=run_id)
    evaluation, ids, probabilities = read_evaluation(settings, run_id)
    by_id = {record.id: record for record in manifest.records}
    records = [by_id[bin_id] for bin_id in ids]
    folder, _ = model_of(settings, run_id)
    low, high = calibrate(settings, folder, manifest, Predictor(folder)).bounds(probabilities)
    truth = truth_of(records, manifest.counts)
    runs.finish_run(settings, run_id)
    covered = (low <= truth) & (truth <= high)
    return {"records": records, "probabilities": probabilities, "covered": covered, "evaluation": evaluation}


def mean_of(figures: list[dict], weights: list[int]) -> dict:
    """The weighted mean of each number that all of the nested dicts hold."""
    answer: dict = {}
    for name, first in figures[0].items():
        values = [each[name] for each in figures if each.get(name) is not None]
        if len(values) < len(figures):
            continue
        if isinstance(first, dict):
            answer[name] = mean_of(values, weights)
        elif isinstance(first, float):
            answer[name] = float(np.average(values, weights=weights))
    return answer


def judges_of(folds: list[dict]) -> dict:
    """Figures of the change head and of the judge of contents, where all folds' models have them."""
    answer = {}
    for name, size in (("pairs", "pairs"), ("contents", "bins")):
        figures = [fold["evaluation"].get(name) for fold in folds]
        if all(figures):
            sizes = [each[size] for each in figures]
            answer[name] = {size: sum(sizes), **mean_of(figures, sizes)}
    return answer


def pool(manifest: Manifest, folds: list[dict]) -> dict:
    """Evaluates all bins, each by the model that was not trained on it."""
    records = [record for fold in folds for record in fold["records"]]
    probabilities = np.concatenate([fold["probabilities"] for fold in folds])
    covered = np.concatenate([fold["covered"] for fold in folds])
    truth = truth_of(records, manifest.counts)
    judged = evaluate_predictions(probabilities, records, manifest.counts)
    variance = evaluate_detection(
        probabilities, records, manifest.counts, prior_of(truth, manifest.counts), error_rate=PLANTED
    )
    return {
        **{name: judged[name] for name in ("metrics", "intervals", "baselines", "per_count")},
        "folds": [
            evaluate_predictions(fold["probabilities"], fold["records"], manifest.counts)["metrics"] for fold in folds
        ],
        "coverage": {
            "all": float(covered.mean()),
            **{name: float(covered[truth == index].mean()) for index, name in enumerate(manifest.counts.names)},
        },
        "variance": variance["kinds"],
        **judges_of(folds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True)
    parser.add_argument("--counts", default="1-5")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--backbone", default="auto")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--fit", default="pad")
    parser.add_argument("--image-px", type=int, default=224)
    parser.add_argument("--max-epochs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--fine-tune-epochs", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")

    from bincount.dataset.ingest import collect

    settings = Settings.from_env()
    bins = {"source": options.source, "counts": options.counts, "limit": options.limit}
    bins["other_counts"] = options.fine_tune_epochs > 0
    manifest = read_manifest(settings, collect(settings, **bins)["manifest"])
    folds = []
    for number, fold in enumerate(folds_of(manifest, options.folds, options.seed)):
        folds.append(learn_fold(settings, fold, f"fold {number + 1} of {options.folds}", options))
    answer = pool(manifest, folds)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(answer, indent=1))
    printed = ("metrics", "intervals", "coverage", "pairs", "contents")
    print(json.dumps({name: answer[name] for name in printed if name in answer}, indent=1))


if __name__ == "__main__":
    main()
