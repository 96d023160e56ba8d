"""Scores a model on bins it has never seen."""

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
from bincount.dataset.manifest import Manifest, Record
from bincount.dataset.shards import photos_of
from bincount.dataset.split import LEARNED
from bincount.errors import ConfigError, DataError
from bincount.evaluate.batch_inference import digest_of_model, model_of, observe_records
from bincount.evaluate.detection_metrics import detection_metrics, headline_metrics
from bincount.evaluate.drift_baseline import DriftBaseline
from bincount.evaluate.evaluation import evaluate_predictions, truth_of, without_leakage
from bincount.files import read_json
from bincount.mismatch.calibration import prior_of
from bincount.settings import Settings
from bincount.tracking import runs

_log = logging.getLogger(__name__)


def evaluate(settings: Settings, *, run_id: str | None = None, **bins: Any) -> dict:
    """Scores a run's model on its own test part, or any registered model on the bins of any source.

    Args:
        settings: Where things are on this machine.
        run_id: The run, with its trained model: see `evaluate_run`.
        **bins: Instead of it `model`, `source` and which bins: see `evaluate_source`.

    Returns:
        What the one or the other returns.

    Raises:
        ConfigError: If neither is asked for, or both are.
        BincountError: What the one or the other raises.
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

    Bins of a group that has a photo among the learned ones are set aside, so
    that nothing is scored that the model has nearly seen. Figures, pictures and
    the model's card go to `data/runs/<run_id>/evaluation` and to MLflow; what
    the photos were like stays with the model (`evaluate.drift_baseline`).

    Args:
        settings: Where things are on this machine.
        run_id: The run, with its trained model.

    Returns:
        `metrics`: exact, within_one, mae, rmse, nll, rps, ece, the baselines
        largest_class and prior_nll, bins, groups and set_aside, and how well
        wrong records are found (`variance_evaluation.headline_of`).

    Raises:
        ConfigError: If the run has no trained model.
        DataError: If the manifest has no test bin to score, or a shard is damaged.
        StoreError: If the tracking server does not answer.
    """
    folder, facts = model_of(settings, run_id)
    place = settings.run(run_id) / "evaluation"
    model = digest_of_model(folder)
    done = _done(place, model)
    if done and DriftBaseline.read(folder) is not None:
        _log.info("evaluation of run %s is there already", run_id)
        return {"metrics": done["metrics"]}

    from bincount.learn.images import sharpness_of
    from bincount.learn.predictor import Predictor

    manifest = Manifest.read(settings.manifests, facts["manifest"])
    counts = Counts.parse(facts["counts"])
    test = manifest.part("test")
    records = without_leakage(test, {record.group for record in manifest.records if record.part in LEARNED})
    if not records:
        raise DataError(
            f"manifest {facts['manifest']}: must have test bins to score, got none of {len(manifest.records)}. "
            "Ingest more bins: raise --limit."
        )
    probabilities, reference = observe_records(settings, manifest, records, Predictor(folder))
    sharpness = list(map(sharpness_of, photos_of(settings, manifest, records)))
    evaluation = evaluate_predictions(probabilities, records, counts, sharpness)
    evaluation["variance"] = detection_metrics(
        probabilities, records, counts, prior_of(truth_of(manifest.part("train"), counts), counts)
    )
    evaluation["metrics"] |= headline_metrics(evaluation["variance"])
    evaluation["metrics"]["set_aside"] = len(test) - len(records)
    evaluation |= {"model": model, "facts": facts, "source": manifest.source, "counts": list(counts.names)}
    evaluation["parts"] = {part: len(manifest.part(part)) for part in (*LEARNED, "test")}
    evaluation["curves"] = runs.curves(settings, run_id, ("train", "fine_tune"))
    reference.write(folder)
    _publish(settings, run_id, place, evaluation, manifest, records, probabilities)
    figures = evaluation["metrics"]
    _log.info(
        "exact %.1f %% of %d bins (largest class %.1f %%), NLL %.3f (prior %.3f)",
        100 * figures["exact"],
        figures["bins"],
        100 * figures["largest_class"],
        figures["nll"],
        figures["prior_nll"],
    )
    return {"metrics": figures}


def read_evaluation(settings: Settings, run_id: str) -> tuple[dict, list[str], np.ndarray]:
    """What `evaluate` left: its figures, the ids of the bins and their (N, C) distributions.

    Raises:
        DataError: If the run was not evaluated, or what was left is damaged.
    """
    place = settings.run(run_id) / "evaluation"
    try:
        evaluation = json.loads((place / "evaluation.json").read_text())
        with (place / "probabilities.npz").open("rb") as file, np.load(file, allow_pickle=False) as saved:
            return evaluation, saved["ids"].tolist(), saved["probabilities"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        got = f"no {Path(error.filename).name}" if isinstance(error, OSError) else f"a damaged file: {error}"
        raise DataError(f"run {run_id}: must be evaluated, got {got}. Run `bincount evaluate` first.") from None


def _done(place: Path, model: str) -> dict | None:
    """The evaluation that is there, if it is this model's."""
    evaluation = read_json(place / "evaluation.json")
    return evaluation if evaluation and evaluation["model"] == model else None


def _publish(
    settings: Settings,
    run_id: str,
    place: Path,
    evaluation: dict,
    manifest: Manifest,
    records: Sequence[Record],
    probabilities: np.ndarray,
) -> None:
    """Writes everything beside its place, logs it, then moves it there: what is there is complete."""
    from bincount.evaluate.figures import draw
    from bincount.evaluate.model_card import card_of, to_html, to_markdown, variance_blocks

    beside = place.with_name("evaluation.beside")
    shutil.rmtree(beside, ignore_errors=True)  # of an attempt that was killed
    beside.mkdir(parents=True)
    draw(settings, beside, evaluation, manifest, records, probabilities)
    (beside / "evaluation.json").write_text(json.dumps(evaluation, indent=1))
    np.savez_compressed(
        beside / "probabilities.npz",
        ids=np.asarray([record.id for record in records]),
        recorded=np.asarray([record.recorded for record in records]),
        probabilities=probabilities.astype(np.float32),
    )
    card = [*card_of(evaluation, run_id, settings.gate), *variance_blocks(evaluation)]
    (beside / "card.md").write_text(to_markdown(card))
    (beside / "card.html").write_text(to_html(card, beside))
    runs.log_metrics(settings, run_id, {f"test_{name}": value for name, value in evaluation["metrics"].items()})
    runs.log_artifacts(settings, run_id, beside, "evaluation")
    shutil.rmtree(place, ignore_errors=True)
    beside.replace(place)
