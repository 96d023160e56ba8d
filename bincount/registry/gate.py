"""The gate: decides whether a version may become the champion."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

import numpy as np

from bincount.counts import Counts
from bincount.dataset.manifest import read_manifest
from bincount.dataset.split import SEEN_PARTS
from bincount.errors import DataError
from bincount.evaluate.batch_inference import predict_records
from bincount.evaluate.evaluate import read_evaluation
from bincount.evaluate.gate_checks import gate_scores
from bincount.evaluate.leakage import exclude_siblings
from bincount.evaluate.served_log import shadowed_photos
from bincount.registry.comparison import compare
from bincount.registry.decision import GATE, NO_CHAMPION, StoredDecision, new_decision, stored_decision, write_decision
from bincount.registry.gate_rules import SHADOW, Comparison, decide
from bincount.settings import Settings
from bincount.tracking import model_registry, runs
from bincount.tracking.model_registry import CHAMPION, Version

_log = logging.getLogger(__name__)

_CHECKS = "bincount.gate"


def gate(settings: Settings, *, model_version: str) -> dict:
    """Decides whether a version may become the champion, and stores the decision on it; no alias moves.

    A stored decision is returned if it was made with the present champion and
    limits. Otherwise the version is compared again. It is also compared again
    if it had answered too few photos as shadow when the gate refused it.

    Args:
        settings: Where things are on this machine, and the gate's limits.
        model_version: The version, such as "3".

    Returns:
        `outcome` ("accepted", "refused" or "undecided": too few test bins),
        `agreed` (whether it is accepted), `reason` (one sentence), `against`
        (the champion's version or "none") and `comparison` (the figures in Markdown).

    Raises:
        ConfigError: If there is no such version, or no log of the shadow where one is set.
        StoreError: If the tracking server does not answer.
    """
    version = model_registry.version_of(settings, model_version)
    champion = model_registry.alias(settings, CHAMPION)
    decision = stored_decision(settings, version, champion)
    if decision is None or _waits_for_shadow(version, decision):
        decision = _decide(settings, version, champion)
        version = model_registry.version_of(settings, model_version)
    _log.info("version %s: %s", model_version, decision.reason)
    checks = json.loads(version.tags.get(_CHECKS, "[]"))
    return {
        "outcome": decision.outcome,
        "agreed": decision.agreed,
        "reason": decision.reason,
        "against": champion or NO_CHAMPION,
        "comparison": f"{decision.reason}\n\n{_to_markdown(checks)}",
    }


def _waits_for_shadow(version: Version, decision: StoredDecision) -> bool:
    """True if the gate refused a version that had answered too few photos as shadow; it may have answered more."""
    checks = json.loads(version.tags.get(_CHECKS, "[]"))
    return decision.by == GATE and any(check["rule"] == SHADOW and not check["met"] for check in checks)


def _decide(settings: Settings, version: Version, champion: str | None) -> StoredDecision:
    evaluation, ids, probabilities = read_evaluation(settings, version.run_id)
    comparison, shadowed = None, 0
    if champion not in {None, version.version}:
        if settings.gate.shadow_photos and settings.gate.shadow_log is not None:
            shadowed = shadowed_photos(Path(settings.gate.shadow_log), version.version)
        comparison = _compare(settings, evaluation, ids, probabilities, model_registry.version_of(settings, champion))
    decision = decide(gate_scores(evaluation), comparison, settings.gate, shadowed)
    stored = new_decision(settings, champion, outcome=decision.outcome, reason=decision.reason)
    checks = [{"rule": check.rule, "met": check.met, "figures": check.figures} for check in decision.checks]
    tags = {_CHECKS: json.dumps(checks)}
    model_registry.describe(settings, version.version, tags=tags)
    runs.log_tags(settings, version.run_id, tags)
    write_decision(settings, version.version, stored, "Gate", f"{stored.reason}\n\n{_to_markdown(checks)}")
    return stored


def _compare(
    settings: Settings, evaluation: dict, ids: list[str], probabilities: np.ndarray, champion: Version
) -> Comparison:
    """Scores the champion on the challenger's test bins, except those that it may have learned from."""
    from bincount.learn.predictor import Predictor

    manifest = read_manifest(settings, evaluation["facts"]["manifest"])
    ours, theirs = Counts.parse(evaluation["facts"]["counts"]), Counts.parse(champion.tags["bincount.counts"])
    row_of = {name: row for row, name in enumerate(ids)}
    scored = [record for record in manifest.records if record.id in row_of]
    unseen = exclude_siblings(scored, _learned_ids(settings, champion))
    records = [record for record in unseen if theirs.index_of(record.recorded) is not None]
    _log.info("comparing with champion version %s on %d of %d test bins", champion.version, len(records), len(scored))
    if not records:
        return compare(champion.version, [], (probabilities[:0], ours), (probabilities[:0], theirs))
    with tempfile.TemporaryDirectory() as folder:
        predictor = Predictor(model_registry.fetch_model(settings, champion.version, Path(folder)))
        defending = predict_records(settings, manifest, records, predictor)
    challenging = probabilities[[row_of[record.id] for record in records]]
    return compare(champion.version, records, (challenging, ours), (defending, theirs))


def _learned_ids(settings: Settings, champion: Version) -> set[str]:
    """Ids of the bins that the champion learned from; empty where its manifest is not in this workspace.

    A bin's part depends on its id alone, so the challenger's test bins are not
    among them in any case; only siblings across a block's border are missed.
    """
    try:
        manifest = read_manifest(settings, champion.tags["bincount.manifest"])
    except DataError as error:
        _log.warning("champion version %s: its manifest cannot be read: %s", champion.version, error)
        return set()
    return {record.id for record in manifest.records if record.part in SEEN_PARTS}


def _to_markdown(checks: list[dict]) -> str:
    states = {True: "met", False: "**not met**", None: "**cannot tell**"}
    return "\n".join(f"- {states[check['met']]}: {check['figures']}" for check in checks)
