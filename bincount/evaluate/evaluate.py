"""The step `evaluate`: scores a run's model on its test part and publishes figures, card and predictions."""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bincount.counts import Counts
from bincount.dataset.manifest import Manifest, Record, read_manifest
from bincount.dataset.pairs import pairs_of
from bincount.dataset.shards import read_contents, shard_paths
from bincount.dataset.split import DEVELOPMENT_PARTS, SEEN_PARTS
from bincount.errors import ConfigError, DataError
from bincount.evaluate.batch_inference import digest_of_model, model_of, observe_records
from bincount.evaluate.contents_metrics import contents_summary, evaluate_contents
from bincount.evaluate.count_metrics import evaluate_predictions, truth_of
from bincount.evaluate.detection_metrics import detection_summary, evaluate_detection
from bincount.evaluate.drift_baseline import DriftBaseline
from bincount.evaluate.leakage import exclude_learned
from bincount.evaluate.pair_metrics import evaluate_pairs, pairs_summary
from bincount.files import read_json
from bincount.mismatch.calibration import prior_of
from bincount.mismatch.change import ChangeHead
from bincount.mismatch.contents import ContentsJudge
from bincount.mismatch.sums import SumsHead
from bincount.settings import Settings
from bincount.store.workspace import open_workspace
from bincount.tracking import runs

_log = logging.getLogger(__name__)


def evaluate(settings: Settings, *, run_id: str | None = None, **bins: Any) -> dict:
    """Scores a run's model on its own test part, or any registered model on the bins of any source.

    Args:
        settings: Where things are on this machine.
        run_id: The run, with its trained model: see `evaluate_run`.
        **bins: Instead of it `model`, `source` and a choice of bins: see `evaluate_source`.

    Returns:
        That of `evaluate_run` or `evaluate_source`.

    Raises:
        ConfigError: If the arguments fit neither.
        BincountError: Those of `evaluate_run` and `evaluate_source`.
    """
    given = {name: value for name, value in {"run_id": run_id, **bins}.items() if value is not None}
    if run_id is not None and set(given) == {"run_id"}:
        return evaluate_run(settings, run_id=run_id)
    if run_id is not None or not {"model", "source"} <= set(given):
        got = ", ".join(f"--{name.replace('_', '-')}" for name in given) or "nothing"
        raise ConfigError(
            f"evaluate: must be given --run-id alone, or --model with --source, got {got}. "
            "Try --model models:/bincount@champion --source ../shared/abid."
        )
    from bincount.evaluate.evaluate_source import evaluate_source

    return evaluate_source(settings, **given)


def evaluate_run(settings: Settings, *, run_id: str) -> dict:
    """Scores a run's model on the manifest's test part, each bin exactly once.

    Bins of a group with a photo among the learned ones are set aside. Figures,
    pictures and the model card are written to `data/runs/<run_id>/evaluation`
    and to MLflow; the drift baseline is kept with the model.

    Args:
        settings: Where things are on this machine.
        run_id: The run, with its trained model.

    Returns:
        `metrics`: exact, within_one, mae, rmse, nll, rps, ece, the baselines
        largest_class and prior_nll, bins, groups and set_aside, the detection
        of wrong records (`detection_metrics.detection_summary`) and, where the model has a change head,
        the count after a transaction (`pair_metrics.pairs_summary`) and, where it has a judge of contents, the total
        given the products (`contents_metrics.contents_summary`); and all figures of the latter two, `pairs`
        (`pair_metrics.evaluate_pairs`) and `contents` (`contents_metrics.evaluate_contents`).

    Raises:
        ConfigError: If the run has no trained model.
        DataError: If the manifest has no test bin to score, or a shard is damaged.
        StoreError: If the tracking server does not answer.
    """
    folder, facts = model_of(settings, run_id)
    evaluation_folder = settings.run(run_id) / "evaluation"
    shared, model = open_workspace(settings), digest_of_model(folder)
    shared.pull_folder(evaluation_folder)
    done = _done(evaluation_folder, model)
    if done and DriftBaseline.read(folder) is not None:
        _log.info("run %s is evaluated already", run_id)
        shared.publish(evaluation_folder, last="evaluation.json")
        return _answer_of(done)

    from bincount.learn.predictor import Predictor

    manifest = read_manifest(settings, facts["manifest"])
    counts = Counts.parse(facts["counts"])
    test = manifest.part("test")
    records = exclude_learned(test, {record.group for record in manifest.records if record.part in SEEN_PARTS})
    if not records:
        raise DataError(
            f"manifest {facts['manifest']}: must have test bins to score, got none of {len(manifest.records)}. "
            "Ingest more bins: raise --limit."
        )
    predictor = Predictor(folder)
    head, sums, judge = ChangeHead.read(folder), SumsHead.read(folder), ContentsJudge.read(folder)
    pairs = pairs_of(records) if head else []
    paired = np.zeros(len(records), bool)
    paired[[row for pair in pairs for row in pair]] = True
    observed = observe_records(settings, manifest, records, predictor, keep=paired, sums=sums)
    probabilities = observed.probabilities
    evaluation = evaluate_predictions(probabilities, records, counts, observed.sharpness.tolist())
    prior = prior_of(truth_of(manifest.part("train"), counts), counts)
    evaluation["variance"] = evaluate_detection(probabilities, records, counts, prior)
    evaluation["metrics"] |= detection_summary(evaluation["variance"])
    if head and pairs and observed.kept is not None:
        row_of = np.cumsum(paired) - 1
        earlier, later = (observed.kept[row_of[[pair[end] for pair in pairs]]] for end in (0, 1))
        evaluation["pairs"] = evaluate_pairs(head, pairs, earlier, later, probabilities, records, counts, prior)
        evaluation["metrics"] |= pairs_summary(evaluation["pairs"])
    if judge and observed.sums is not None:
        contents = read_contents(records, shard_paths(settings, manifest.shards))
        figures_of_contents = evaluate_contents(judge, contents, observed.sums, probabilities, records, counts, prior)
        if figures_of_contents:
            evaluation["contents"] = figures_of_contents
            evaluation["metrics"] |= contents_summary(figures_of_contents)
    evaluation["metrics"]["set_aside"] = len(test) - len(records)
    evaluation |= {"model": model, "facts": facts, "source": manifest.source, "counts": list(counts.names)}
    evaluation["parts"] = {part: len(manifest.part(part)) for part in (*DEVELOPMENT_PARTS, "test")}
    evaluation["curves"] = runs.curves(settings, run_id, ("train", "fine_tune"))
    observed.baseline.write(folder)
    shared.push(folder)
    _publish(settings, run_id, evaluation_folder, evaluation, manifest, records, probabilities)
    shared.publish(evaluation_folder, last="evaluation.json")
    figures = evaluation["metrics"]
    _log.info(
        "exact %.1f %% of %d bins (largest class %.1f %%), NLL %.3f (prior %.3f)",
        100 * figures["exact"],
        figures["bins"],
        100 * figures["largest_class"],
        figures["nll"],
        figures["prior_nll"],
    )
    return _answer_of(evaluation)


def _answer_of(evaluation: dict) -> dict:
    return {name: evaluation[name] for name in ("metrics", "pairs", "contents") if name in evaluation}


def read_evaluation(settings: Settings, run_id: str) -> tuple[dict, list[str], np.ndarray]:
    """Reads an evaluation: its figures, the ids of the bins and their (N, C) distributions.

    Raises:
        DataError: If the run was not evaluated, or a file is damaged.
    """
    evaluation_folder = settings.run(run_id) / "evaluation"
    open_workspace(settings).pull_folder(evaluation_folder)
    try:
        evaluation = json.loads((evaluation_folder / "evaluation.json").read_text())
        with (evaluation_folder / "probabilities.npz").open("rb") as file, np.load(file, allow_pickle=False) as saved:
            return evaluation, saved["ids"].tolist(), saved["probabilities"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        got = f"no {Path(error.filename).name}" if isinstance(error, OSError) else f"a damaged file: {error}"
        raise DataError(f"run {run_id}: must be evaluated, got {got}. Run `bincount evaluate` first.") from None


def _done(evaluation_folder: Path, model: str) -> dict | None:
    """The existing evaluation, if it is of this model."""
    evaluation = read_json(evaluation_folder / "evaluation.json")
    return evaluation if evaluation and evaluation["model"] == model else None


def _publish(
    settings: Settings,
    run_id: str,
    evaluation_folder: Path,
    evaluation: dict,
    manifest: Manifest,
    records: Sequence[Record],
    probabilities: np.ndarray,
) -> None:
    """Writes everything to a temporary folder, logs it, then renames the folder: an existing one is complete."""
    from bincount.evaluate.model_card import card_of, summary_of, to_html, to_markdown
    from bincount.evaluate.plots import draw

    beside = evaluation_folder.with_name("evaluation.beside")
    shutil.rmtree(beside, ignore_errors=True)  # of a killed attempt
    beside.mkdir(parents=True)
    draw(settings, beside, evaluation, manifest, records, probabilities)
    (beside / "evaluation.json").write_text(json.dumps(evaluation, indent=1))
    np.savez_compressed(
        beside / "probabilities.npz",
        ids=np.asarray([record.id for record in records]),
        recorded=np.asarray([record.recorded for record in records]),
        probabilities=probabilities.astype(np.float32),
    )
    card = card_of(evaluation, run_id, settings.gate)
    (beside / "card.md").write_text(to_markdown(card))
    (beside / "card.html").write_text(to_html(card, beside))
    runs.log_metrics(settings, run_id, {f"test_{name}": value for name, value in evaluation["metrics"].items()})
    runs.log_artifacts(settings, run_id, beside, "evaluation")
    facts = evaluation["facts"]
    how = "fine-tuned" if facts["config"]["fine_tune_epochs"] else "frozen"
    name = f"{facts['backbone']} {how}, {evaluation['metrics']['exact']:.1%} exact of {len(records)} bins"
    runs.describe_run(settings, run_id, name=name, description=to_markdown(summary_of(evaluation, settings.gate)))
    shutil.rmtree(evaluation_folder, ignore_errors=True)
    beside.replace(evaluation_folder)
