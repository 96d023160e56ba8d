"""Asks the gate whether a version may become the champion."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

import numpy as np

from bincount.counts import Counts
from bincount.dataset.manifest import Manifest
from bincount.dataset.split import LEARNED
from bincount.errors import DataError
from bincount.evaluate.batch_inference import predict_records
from bincount.evaluate.evaluate import read_evaluation
from bincount.evaluate.evaluation import scores_of
from bincount.registry.comparison import compare, unseen_by_both
from bincount.registry.decision import NOBODY, StoredDecision, new_decision, stored_decision, write_decision
from bincount.registry.gate_rules import Comparison, Decision, decide
from bincount.settings import Settings
from bincount.tracking import model_registry, runs
from bincount.tracking.model_registry import CHAMPION, Version

_log = logging.getLogger(__name__)


def gate(settings: Settings, *, model_version: str) -> dict:
    """Asks the gate, and keeps its answer on the version; no alias moves.

    The answer holds for the champion and the limits it was given against:
    asked again it is the same, unless one of them has changed; then the gate
    is asked anew.

    Args:
        settings: Where things are on this machine, and the gate's limits.
        model_version: The version, such as "3".

    Returns:
        `agreed`, `reason` (one sentence), `against` (the champion's version or
        "none") and `comparison`, the gate's figures in Markdown.

    Raises:
        ConfigError: If there is no such version.
        StoreError: If the tracking server does not answer.
    """
    version = model_registry.version_of(settings, model_version)
    champion = model_registry.alias(settings, CHAMPION)
    kept = stored_decision(settings, version, champion)
    if kept is None:
        kept = _ask(settings, version, champion)
        version = model_registry.version_of(settings, model_version)
    _log.info("version %s: %s", model_version, kept.reason)
    checks = json.loads(version.tags.get("bincount.gate", "[]"))
    return {
        "agreed": kept.agreed,
        "reason": kept.reason,
        "against": champion or NOBODY,
        "comparison": f"{kept.reason}\n\n{_to_markdown(checks)}",
    }


def _ask(settings: Settings, version: Version, champion: str | None) -> StoredDecision:
    evaluation, ids, probabilities = read_evaluation(settings, version.run_id)
    comparison = None
    if champion not in {None, version.version}:
        comparison = _compare(settings, evaluation, ids, probabilities, model_registry.version_of(settings, champion))
    decision = decide(scores_of(evaluation), comparison, settings.gate)
    kept = new_decision(settings, champion, agreed=decision.promoted, reason=decision.reason)
    checks = _checks(decision)
    tags = {"bincount.gate": json.dumps(checks)}
    model_registry.describe(settings, version.version, tags=tags)
    runs.log_tags(settings, version.run_id, tags)
    write_decision(settings, version.version, kept, "Gate", f"{kept.reason}\n\n{_to_markdown(checks)}")
    return kept


def _compare(
    settings: Settings, evaluation: dict, ids: list[str], probabilities: np.ndarray, champion: Version
) -> Comparison:
    """Scores the champion on the challenger's test bins, without any that it may have learned from."""
    from bincount.learn.predictor import Predictor

    manifest = Manifest.read(settings.manifests, evaluation["facts"]["manifest"])
    ours, theirs = (
        Counts.parse(evaluation["facts"]["counts"]),
        Counts.parse(champion.tags["bincount.counts"]),
    )
    row_of = {name: row for row, name in enumerate(ids)}
    scored = [record for record in manifest.records if record.id in row_of]
    known = unseen_by_both(scored, _learned(settings, champion))
    records = [record for record in known if theirs.index_of(record.recorded) is not None]
    _log.info("comparing with champion version %s on %d of %d test bins", champion.version, len(records), len(scored))
    if not records:
        return compare(champion.version, [], (probabilities[:0], ours), (probabilities[:0], theirs))
    with tempfile.TemporaryDirectory() as folder:
        predictor = Predictor(model_registry.fetch_model(settings, champion.version, Path(folder)))
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


def _checks(decision: Decision) -> list[dict]:
    return [{"rule": check.rule, "met": check.met, "figures": check.figures} for check in decision.checks]


def _to_markdown(checks: list[dict]) -> str:
    return "\n".join(f"- {'met' if check['met'] else '**not met**'}: {check['figures']}" for check in checks)
