"""Asks the gate whether a version may become the champion."""

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
from bincount.steps.decision import NOBODY, Kept, kept_decision, new_decision, write_decision
from bincount.steps.evaluate import read_evaluation
from bincount.steps.scored import predict_records

_log = logging.getLogger(__name__)


def ask_gate(settings: Settings, *, model_version: str) -> dict:
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
    version = registry.version_of(settings, model_version)
    champion = registry.alias(settings, CHAMPION)
    kept = kept_decision(settings, version, champion)
    if kept is None:
        kept = _ask(settings, version, champion)
        version = registry.version_of(settings, model_version)
    _log.info("version %s: %s", model_version, kept.reason)
    checks = json.loads(version.tags.get("bincount.gate", "[]"))
    return {
        "agreed": kept.agreed,
        "reason": kept.reason,
        "against": champion or NOBODY,
        "comparison": f"{kept.reason}\n\n{_to_markdown(checks)}",
    }


def _ask(settings: Settings, version: Version, champion: str | None) -> Kept:
    evaluation, ids, probabilities = read_evaluation(settings, version.run_id)
    comparison = None
    if champion not in {None, version.version}:
        comparison = _compare(settings, evaluation, ids, probabilities, registry.version_of(settings, champion))
    decision = decide(scores_of(evaluation), comparison, settings.gate)
    kept = new_decision(settings, champion, agreed=decision.promoted, reason=decision.reason)
    checks = _checks(decision)
    gate = {"bincount.gate": json.dumps(checks)}
    registry.describe(settings, version.version, tags=gate)
    tracking.log_tags(settings, version.run_id, gate)
    write_decision(settings, version.version, kept, "Gate", f"{kept.reason}\n\n{_to_markdown(checks)}")
    return kept


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


def _checks(decision: Decision) -> list[dict]:
    return [{"rule": check.rule, "met": check.met, "figures": check.figures} for check in decision.checks]


def _to_markdown(checks: list[dict]) -> str:
    return "\n".join(f"- {'met' if check['met'] else '**not met**'}: {check['figures']}" for check in checks)
