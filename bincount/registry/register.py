"""Makes a run's model a version of the registered model "bincount"."""

from __future__ import annotations

import logging
from importlib import metadata
from pathlib import Path

from bincount.dataset.manifest import read_manifest
from bincount.errors import ConfigError
from bincount.evaluate.batch_inference import digest_of_model, model_of
from bincount.evaluate.conformal_calibration import calibrate, coverage_of
from bincount.evaluate.drift_baseline import DriftBaseline
from bincount.evaluate.evaluate import read_evaluation
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

_REFERENCE = "bincount.reference"  # tag of a version whose photos are known
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
"""The files of this package that a version carries: all that `serving/model.py` imports."""


def register(settings: Settings, *, run_id: str) -> dict:
    """Registers a run's evaluated model, once: asked again it names the same version.

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
        code=_SERVING / "model.py",
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
