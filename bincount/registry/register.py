"""Calibrates a run's model and makes it a version of the registered model "bincount"."""

from __future__ import annotations

import logging
from importlib import metadata
from pathlib import Path

import numpy as np

from bincount.dataset.manifest import Manifest, read_manifest
from bincount.dataset.split import AUXILIARY, LEARNED_PARTS
from bincount.errors import ConfigError
from bincount.evaluate.batch_inference import digest_of_model, model_of, predict_records
from bincount.evaluate.count_metrics import truth_of
from bincount.evaluate.drift_baseline import DriftBaseline
from bincount.evaluate.evaluate import read_evaluation
from bincount.evaluate.leakage import exclude_learned
from bincount.evaluate.model_card import summary_of, to_markdown
from bincount.learn.engine import FLOAT32, checked_precisions
from bincount.learn.predictor import MODEL, Predictor
from bincount.mismatch.calibration import Calibration
from bincount.registry.decision import DESCRIPTION_CHARACTERS, is_decided
from bincount.registry.golden import ENGINE, PRECISIONS, write_golden
from bincount.settings import Settings
from bincount.store.workspace import open_workspace
from bincount.tracking import model_registry, runs

_log = logging.getLogger(__name__)

_REFERENCE = "bincount.reference"  # tag of a version that has a drift baseline
_SERVING = Path(__file__).resolve().parents[1] / "serving"
_TAGGED = ("manifest", "counts", "backbone", "backbone_choice", "weights", "fit")
_COMPARED = ("backbone", "weights", "fit", "image_px", "counts")
_DISTRIBUTIONS = ("mlflow", "openvino", "numpy", "pandas", "pillow", "simplejpeg")
"""Distributions that a version needs to answer, pinned as installed here."""
MODULES = (
    "__init__.py",
    "config.py",
    "schema.py",
    "counts.py",
    "errors.py",
    "files.py",
    *(f"dataset/{name}.py" for name in ("__init__", "contents", "keys", "metadata", "photo_check", "rejection")),
    *(f"learn/{name}.py" for name in ("__init__", "engine", "images", "predictor")),
    *(f"mismatch/{name}.py" for name in ("__init__", "answer", "calibration", "change", "conformal", "contents")),
    *(f"mismatch/{name}.py" for name in ("likelihood", "model_file", "posterior", "sums", "verdicts")),
    *("serving/__init__.py", "serving/batcher.py", "serving/bin_counter.py", "serving/example.jpg"),
)
"""The files of this package that a version carries: all that `serving/mlflow_model.py` imports."""


def register(settings: Settings, *, run_id: str) -> dict:
    """Registers a run's evaluated model; a second call returns the same version.

    Args:
        settings: Where things are on this machine.
        run_id: The run, with its trained and evaluated model.

    Returns:
        `model_version`, such as "3", and `model_uri`.

    Raises:
        ConfigError: If the run has no model, or its evaluation is of another one.
        DataError: If the run was not evaluated.
        StoreError: If the tracking server does not answer.
    """
    folder, facts = model_of(settings, run_id)
    model = digest_of_model(folder)
    for made in model_registry.versions_of_run(settings, run_id):
        whole = Calibration.read(folder) is not None and (_REFERENCE in made.tags or DriftBaseline.read(folder) is None)
        if made.tags.get("bincount.model") == model and whole:
            _log.info("run %s is version %s already", run_id, made.version)
            if not is_decided(made):  # a killed attempt may not have come so far
                model_registry.set_challenger(settings, made.version)
            return _answer(made.version)

    evaluation, ids, probabilities = read_evaluation(settings, run_id)
    if evaluation["model"] != model:
        raise ConfigError(
            f"run {run_id}: its evaluation must be of model {model}, got {evaluation['model']}. "
            "Run `bincount evaluate` again."
        )
    manifest = read_manifest(settings, facts["manifest"])
    predictor = Predictor(folder)
    calibration = calibrate(settings, folder, manifest, predictor)
    open_workspace(settings).push(folder)
    runs.log_metrics(settings, run_id, coverage_of(calibration, manifest, ids, probabilities))
    write_golden(settings, run_id, manifest, ids, probabilities, predictor)
    _log.info("run %s: answers come from %s in %s", run_id, predictor.library, predictor.precision)
    package = model_registry.Package(
        code=_SERVING / "mlflow_model.py",
        model=folder,
        modules=MODULES,
        requirements=requirements_of(folder),
        example=(_SERVING / "example.jpg").read_bytes(),
        metadata={"bincount": bincount_version(), **facts},
        params={name: facts[name] for name in _COMPARED if name in facts} | facts.get("hyperparameters", {}),
        metrics={f"test_{name}": value for name, value in evaluation["metrics"].items()},
        dataset=facts["manifest"],
    )
    description = to_markdown(summary_of(evaluation, settings.gate))[:DESCRIPTION_CHARACTERS]
    tags = _tags(settings, run_id, model, evaluation)
    tags[ENGINE] = predictor.library
    tags[PRECISIONS] = ",".join(checked_precisions(folder / MODEL)) or FLOAT32
    if DriftBaseline.read(folder) is not None:
        tags[_REFERENCE] = "true"
    version = model_registry.register(settings, run_id, package, tags, description)
    model_registry.set_challenger(settings, version)
    _log.info("run %s is version %s", run_id, version)
    return _answer(version)


def calibrate(settings: Settings, folder: Path, manifest: Manifest, predictor: Predictor) -> Calibration:
    """Calibrates a model, unless its folder holds a calibration already.

    Args:
        settings: Where the photos are.
        folder: The model's; `calibration.json` is written there and served with the model.
        manifest: The manifest that the model was trained on.
        predictor: The model.

    Raises:
        DataError: If a shard or an existing calibration is damaged.
    """
    existing = Calibration.read(folder)
    if existing is not None:
        return existing
    counts = predictor.counts
    train = manifest.part("train")
    learned = {record.group for part in (*LEARNED_PARTS, AUXILIARY) for record in manifest.part(part)}
    records = exclude_learned(manifest.part("calibration"), learned)
    probabilities = np.zeros((0, len(counts)))
    if records:
        probabilities = predict_records(settings, manifest, records, predictor)
    groups = [record.group for record in records]
    training = truth_of(train, counts).tolist()
    calibration = Calibration.of(probabilities, truth_of(records, counts), groups, training, counts)
    calibration.write(folder)
    if pooled := calibration.pooled():
        _log.warning(
            "too few calibration bins of %s for thresholds of their own: pooled over counts (%d bins in %d groups)",
            ", ".join(pooled),
            len(records),
            len(set(groups)),
        )
    return calibration


def coverage_of(calibration: Calibration, manifest: Manifest, ids: list[str], probabilities: np.ndarray) -> dict:
    """Coverage and size of the prediction intervals on test bins.

    Args:
        calibration: The model's.
        manifest: Holds the records.
        ids: (N,) ids of the test bins.
        probabilities: (N, C) predicted distributions.

    Returns:
        `test_coverage`, the share of intervals that contain the record (95 % is
        nominal), and `test_set_size`, their mean number of counts.
    """
    recorded = {record.id: record.recorded for record in manifest.part("test")}
    low, high = calibration.bounds(probabilities)
    truth = np.asarray([calibration.counts.index_of(recorded[bin_id]) for bin_id in ids])
    return {
        "test_coverage": float(((low <= truth) & (truth <= high)).mean()),
        "test_set_size": float((high - low + 1).mean()),
    }


def requirements_of(model: Path) -> list[str]:
    """Pinned distributions; TensorFlow only where the network could not be exported to OpenVINO."""
    names = _DISTRIBUTIONS if checked_precisions(model / MODEL) else (*_DISTRIBUTIONS, "tensorflow", "keras")
    return [f"{name}=={metadata.version(name)}" for name in names]


def bincount_version() -> str:
    """The installed version of this package."""
    return metadata.version("bincount")


def _answer(version: str) -> dict:
    return {"model_version": version, "model_uri": f"models:/{model_registry.MODEL}/{version}"}


def _tags(settings: Settings, run_id: str, model: str, evaluation: dict) -> dict[str, str]:
    """Tags that lead from a version to the exact bins and code that made it."""
    facts, of_run = evaluation["facts"], runs.run_tags(settings, run_id)
    named = {
        "bincount.git_commit": of_run.get("mlflow.source.git.commit"),
        "bincount.dag_run": of_run.get("bincount.attempt"),
    }
    return {
        "bincount.model": model,
        "bincount.run": run_id,
        "bincount.source": evaluation["source"],
        **{f"bincount.{name}": str(facts[name]) for name in _TAGGED if name in facts},
        **{f"bincount.{name}": f"{evaluation['metrics'][name]:.4f}" for name in ("exact", "nll", "rps")},
        **{name: value for name, value in named.items() if value},
    }
