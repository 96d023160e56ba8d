"""Makes a run's model a version of the registered model "bincount"."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bincount.dataset.manifest import Manifest
from bincount.dataset.shards import photos_of
from bincount.errors import ConfigError
from bincount.evaluate.batch_inference import digest_of_model, model_of
from bincount.evaluate.conformal_calibration import calibrate, coverage_of
from bincount.evaluate.drift_baseline import DriftBaseline
from bincount.evaluate.evaluate import read_evaluation
from bincount.evaluate.model_card import summary_of, to_markdown
from bincount.mismatch.answer import SAME_WITHIN_BFLOAT16
from bincount.mismatch.calibration import Calibration
from bincount.registry.decision import DESCRIPTION_CHARACTERS, is_decided
from bincount.registry.golden import BFLOAT16, read_golden, write_golden
from bincount.settings import Settings
from bincount.tracking import model_registry, runs

if TYPE_CHECKING:
    from bincount.learn.predictor import Predictor

_log = logging.getLogger(__name__)

# Enough to see a model that half the bits change; they take two seconds.
_PARITY_BINS = 59
_REFERENCE = "bincount.reference"  # tag of a version whose photos are known
_SERVING = Path(__file__).resolve().parents[1] / "serving"
# What loading and answering needs; what is installed is what the lock pins.
_DISTRIBUTIONS = ("mlflow", "tensorflow", "keras", "numpy", "pandas", "google-crc32c")


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
    from bincount.learn.predictor import Predictor

    manifest = Manifest.read(settings.manifests, facts["manifest"])
    predictor = Predictor(folder)
    calibration = calibrate(settings, folder, manifest, predictor)
    runs.log_metrics(settings, run_id, coverage_of(calibration, manifest, ids, probabilities))
    write_golden(settings, run_id, manifest, ids, probabilities, predictor)
    golden = [photo for _, photo, _ in read_golden(settings, run_id)]
    some = [record for record in manifest.records if record.id in set(ids[:_PARITY_BINS])]
    more = list(photos_of(settings, manifest, some))
    fast = parity_of(predictor, Predictor(folder, bfloat16=True), golden, more)
    package = model_registry.Package(
        code=_SERVING / "model.py",
        model=folder,
        requirements=[f"{name}=={metadata.version(name)}" for name in _DISTRIBUTIONS],
        example=(_SERVING / "example.jpg").read_bytes(),
        metadata={"bincount": bincount_version(), **facts},
        config={} if fast is None else {"bfloat16": fast},
    )
    description = to_markdown(summary_of(evaluation, settings.gate))[:DESCRIPTION_CHARACTERS]
    tags = _tags(settings, run_id, model, evaluation)
    if fast is not None:
        tags[BFLOAT16] = str(fast).lower()
    if DriftBaseline.read(folder) is not None:
        tags[_REFERENCE] = "true"
    version = model_registry.register(settings, run_id, package, tags, description)
    model_registry.set_challenger(settings, version)
    _log.info("run %s is version %s", run_id, version)
    return _answer(version)


def bincount_version() -> str:
    """The installed version of this package."""
    return metadata.version("bincount")


def _answer(version: str) -> dict:
    return {"model_version": version, "model_uri": f"models:/{model_registry.MODEL}/{version}"}


def _tags(settings: Settings, run_id: str, model: str, evaluation: dict) -> dict[str, str]:
    """What leads from a version to the exact bins and code that made it."""
    facts, of_run = evaluation["facts"], runs.run_tags(settings, run_id)
    named = {
        "bincount.git_commit": of_run.get("mlflow.source.git.commit"),
        "bincount.dag_run": of_run.get("bincount.attempt"),
    }
    return {
        "bincount.model": model,
        "bincount.run": run_id,
        "bincount.source": evaluation["source"],
        **{f"bincount.{name}": str(facts[name]) for name in ("manifest", "counts", "backbone", "weights", "fit")},
        **{f"bincount.{name}": f"{evaluation['metrics'][name]:.4f}" for name in ("exact", "nll", "rps")},
        **{name: value for name, value in named.items() if value},
    }


def parity_of(exact: Predictor, fast: Predictor, golden: Sequence[bytes], more: Sequence[bytes]) -> bool | None:
    """Compares a model's answers in bfloat16 with those in float32.

    Args:
        exact: The model in float32.
        fast: The same in bfloat16.
        golden: Photos whose counts must be the same, too: servers are asked for them.
        more: Photos whose probabilities must be at most 0.02 apart, as those of the golden ones.

    Returns:
        Whether it passed; None where this machine's processor has no bfloat16.
    """
    if not fast.bfloat16:
        return None
    ours, theirs = exact.predict([*golden, *more]), fast.predict([*golden, *more])
    apart = float(abs(ours - theirs).max())
    same = np.array_equal(ours[: len(golden)].argmax(axis=1), theirs[: len(golden)].argmax(axis=1))
    passed = same and apart <= SAME_WITHIN_BFLOAT16
    _log.info("bfloat16: probabilities of %d photos differ by up to %.4f: passed: %s", len(ours), apart, passed)
    return bool(passed)
