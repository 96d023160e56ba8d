"""Makes a version the champion, if the gate agrees."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

import numpy as np

from bincount.core.comparison import apart_from, compare
from bincount.core.counts import Counts
from bincount.core.errors import DataError
from bincount.core.evaluation import LEARNED, scores_of
from bincount.core.gate import Comparison, Decision, decide
from bincount.core.manifest import Manifest
from bincount.edge import registry, tracking
from bincount.edge.registry import CHAMPION, Version
from bincount.edge.settings import Settings
from bincount.steps.evaluate import read_evaluation
from bincount.steps.scored import predict_records

_log = logging.getLogger(__name__)

_GATE = "\n\n## Gate\n\n"
_NOBODY = "none"


def promote(settings: Settings, *, model_version: str) -> dict:
    """Asks the gate, and moves the alias "champion" if it agrees.

    The answer is kept on the version and holds for the champion it was taken
    against: asked again it is the same, unless another version became champion
    meanwhile; then the gate is asked anew.

    Args:
        settings: Where things are on this machine.
        model_version: The version, such as "3".

    Returns:
        `promoted` and `reason`, one sentence.

    Raises:
        ConfigError: If there is no such version.
        StoreError: If the tracking server does not answer, or another
            promotion came between.
    """
    version = registry.version_of(settings, model_version)
    champion = registry.alias(settings, CHAMPION)
    kept = _kept(version, champion)
    if kept is None:
        kept = _ask(settings, version, champion)
    if kept["promoted"] and champion != model_version:
        registry.crown(settings, model_version, instead_of=champion)
    _log.info("version %s: %s", model_version, kept["reason"])
    tracking.finish_run(settings, version.run_id)
    return kept


def _kept(version: Version, champion: str | None) -> dict | None:
    """The answer given before, where it still holds."""
    against = version.tags.get("bincount.against")
    if against is None or champion not in {version.version, None if against == _NOBODY else against}:
        return None
    return {"promoted": version.tags["bincount.promoted"] == "true", "reason": version.tags["bincount.reason"]}


def _ask(settings: Settings, version: Version, champion: str | None) -> dict:
    evaluation, ids, probabilities = read_evaluation(settings, version.run_id)
    comparison = None
    if champion not in {None, version.version}:
        comparison = _compare(settings, evaluation, ids, probabilities, registry.version_of(settings, champion))
    decision = decide(scores_of(evaluation), comparison)
    _write(settings, version, champion, decision)
    return {"promoted": decision.promoted, "reason": decision.reason}


def _compare(
    settings: Settings, evaluation: dict, ids: list[str], probabilities: np.ndarray, champion: Version
) -> Comparison:
    """Scores the champion on the challenger's test bins, without any that it may have learned from."""
    from bincount.learn.predict import Predictor

    manifest = Manifest.read(settings.manifests, evaluation["facts"]["manifest"])
    ours, theirs = (
        Counts.parse(evaluation["facts"]["counts"]),
        Counts.parse(champion.tags["bincount.counts"]),
    )
    row_of = {name: row for row, name in enumerate(ids)}
    scored = [record for record in manifest.records if record.id in row_of]
    known = apart_from(scored, _learned(settings, champion))
    records = [record for record in known if theirs.index_of(record.recorded) is not None]
    _log.info("comparing with champion version %s on %d of %d test bins", champion.version, len(records), len(scored))
    if not records:
        return compare(champion.version, [], (probabilities[:0], ours), (probabilities[:0], theirs))
    with tempfile.TemporaryDirectory() as folder:
        predictor = Predictor(registry.fetch_model(settings, champion.version, Path(folder)))
        defending = predict_records(settings, manifest, records, predictor)
    challenging = probabilities[[row_of[record.id] for record in records]]
    return compare(champion.version, records, (challenging, ours), (defending, theirs))


def _learned(settings: Settings, champion: Version) -> set[str]:
    """Ids that the champion learned from.

    A bin's part depends on its id alone, so even without the champion's
    manifest the challenger's test bins are none of them; only siblings across
    a block's border cannot be told then.
    """
    try:
        manifest = Manifest.read(settings.manifests, champion.tags["bincount.manifest"])
    except DataError as error:
        _log.warning("champion version %s: its bins are unknown here: %s", champion.version, error)
        return set()
    return {record.id for record in manifest.records if record.part in LEARNED}


def _write(settings: Settings, version: Version, champion: str | None, decision: Decision) -> None:
    """Notes the decision where people look: the version's tags and description, and the run."""
    checks = [{"rule": check.rule, "met": check.met, "figures": check.figures} for check in decision.checks]
    tags = {
        "bincount.promoted": str(decision.promoted).lower(),
        "bincount.reason": decision.reason,
        "bincount.against": champion or _NOBODY,
        "bincount.gate": json.dumps(checks),
    }
    lines = "\n".join(f"- {'met' if check.met else '**not met**'}: {check.figures}" for check in decision.checks)
    description = f"{version.description.split(_GATE)[0]}{_GATE}{decision.reason}\n\n{lines}\n"
    registry.describe(settings, version.version, tags=tags, description=description)
    tracking.log_tags(settings, version.run_id, tags)
