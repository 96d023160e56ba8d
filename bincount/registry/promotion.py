"""Moves of the champion alias: promotion, rejection, rollback and their history."""

from __future__ import annotations

import logging
from dataclasses import asdict

from bincount.errors import ConfigError
from bincount.registry.decision import NO_CHAMPION, new_decision, write_decision, write_result
from bincount.registry.gate import gate
from bincount.registry.gate_rules import ACCEPTED, REFUSED, UNDECIDED
from bincount.registry.serving_check import check_serving, stored_check
from bincount.settings import Settings
from bincount.tracking import model_registry, runs
from bincount.tracking.champion import ChampionChanged, champion_moves, move_champion, whoami
from bincount.tracking.model_registry import CHAMPION, PREVIOUS

_log = logging.getLogger(__name__)

_ATTEMPTS = 5  # if other promotions overtake this one more often, something is wrong


def promote(
    settings: Settings,
    *,
    model_version: str,
    force: bool = False,
    reason: str | None = None,
    actor: str | None = None,
    expected_champion: str | None = None,
) -> dict:
    """Moves the alias "champion" to a version that the gate accepts and that passed its serving check.

    Stored results of `gate` and `check_serving` are used as long as they are
    valid; otherwise both run here. Where the gate is undecided, the version is
    promoted only with an approval, given by `expected_champion`. If another
    version becomes champion meanwhile, the decision is made again.

    Args:
        settings: Where things are on this machine.
        model_version: The version, such as "3".
        force: Whether to skip the gate and the serving check.
        reason: Reason for the history; required with `force`, otherwise the gate's by default.
        actor: Who promotes; the user of this process where None.
        expected_champion: The champion's version, or "none", against which a
            person approved this one: it is not promoted against any other.

    Returns:
        `promoted` and `reason`, one sentence.

    Raises:
        ConfigError: If there is no such version, or `force` has no `reason`.
        StoreError: If the tracking server does not answer, or other promotions
            overtake this one repeatedly.
    """
    version = model_registry.version_of(settings, model_version)
    actor = actor or whoami()
    for attempt in range(1, _ATTEMPTS + 1):
        champion = model_registry.alias(settings, CHAMPION)
        promoted, sentence = (
            (True, _forced(settings, model_version, champion, actor, reason))
            if force
            else _decide(settings, model_version, champion, expected_champion, actor)
        )
        try:
            if promoted and champion != model_version:
                move_champion(settings, model_version, instead_of=champion, actor=actor, reason=reason or sentence)
            break
        except ChampionChanged as error:
            if attempt == _ATTEMPTS:
                raise
            _log.info("%s", error)
    _log.info("version %s: %s", model_version, sentence)
    write_result(settings, version, promoted=promoted, reason=sentence)
    runs.finish_run(settings, version.run_id)
    return {"promoted": promoted, "reason": sentence}


def _decide(
    settings: Settings, model_version: str, champion: str | None, expected_champion: str | None, actor: str
) -> tuple[bool, str]:
    """True if the version is to be promoted, and why."""
    if expected_champion not in {None, champion or NO_CHAMPION} and champion != model_version:
        other = champion or NO_CHAMPION
        sentence = f"it was approved against champion {expected_champion}, and the champion is {other} now"
        return False, f"Not promoted: {sentence}."
    decided = gate(settings, model_version=model_version)
    approved = decided["outcome"] == UNDECIDED and expected_champion is not None
    if champion == model_version or not (decided["agreed"] or approved):
        return decided["agreed"], decided["reason"]
    checked = stored_check(model_registry.version_of(settings, model_version))
    checked = checked or check_serving(settings, model_version=model_version)
    if not checked["servable"]:
        return False, f"Not promoted: {checked['reason']}."
    if not approved:
        return True, decided["reason"]
    sentence = f"Promoted: approved by {actor}, where the gate is undecided."
    decision = new_decision(settings, champion, outcome=ACCEPTED, reason=sentence, by=actor)
    write_decision(settings, model_version, decision, "By hand", sentence)
    return True, sentence


def _forced(settings: Settings, model_version: str, champion: str | None, actor: str, reason: str | None) -> str:
    if not reason:
        raise ConfigError("--reason: must be given to overrule the gate, got none.")
    sentence = f"Promoted by {actor} without the gate: {reason}"
    decision = new_decision(settings, champion, outcome=ACCEPTED, reason=sentence, by=actor)
    write_decision(settings, model_version, decision, "By hand", sentence)
    return sentence


def reject(settings: Settings, *, model_version: str, reason: str | None = None, actor: str | None = None) -> dict:
    """Refuses a version until the champion changes.

    Args:
        settings: Where things are on this machine.
        model_version: The version, such as "3".
        reason: Why.
        actor: Who rejects it; the user of this process where None.

    Returns:
        `promoted`, which is false, and `reason`, one sentence.

    Raises:
        ConfigError: If there is no such version, or it is the champion.
        StoreError: If the tracking server does not answer.
    """
    version, champion = model_registry.version_of(settings, model_version), model_registry.alias(settings, CHAMPION)
    if champion == model_version:
        raise ConfigError(
            f"version {model_version}: must not be champion to be rejected, got the champion. Try `bincount rollback`."
        )
    actor = actor or whoami()
    sentence = f"Not promoted: rejected by {actor}{f': {reason}' if reason else ''}."
    decision = new_decision(settings, champion, outcome=REFUSED, reason=sentence, by=actor)
    write_decision(settings, model_version, decision, "By hand", sentence)
    write_result(settings, version, promoted=False, reason=sentence)
    runs.finish_run(settings, version.run_id)
    _log.info("version %s: %s", model_version, sentence)
    return {"promoted": False, "reason": sentence}


def rollback(
    settings: Settings, *, model_version: str | None = None, reason: str | None = None, actor: str | None = None
) -> dict:
    """Makes an earlier champion the champion again, and the current one the previous.

    The replaced version is refused against this champion from then on
    (`promote` with `force` overrules that). The running server checks the
    version before it answers with it, as any other.

    Args:
        settings: Where things are on this machine.
        model_version: An earlier champion's version; the previous one where None.
        reason: Why.
        actor: Who rolls back; the user of this process where None.

    Returns:
        `model_version`, the champion now, `instead_of`, and `reason`, one sentence.

    Raises:
        ConfigError: If there is no champion, none before it, or the named version was never champion.
        StoreError: If the tracking server does not answer, or a promotion overtook it.
    """
    champion = model_registry.alias(settings, CHAMPION)
    if champion is None:
        raise ConfigError("champion: there must be one to go back from, got none. Promote a version.")
    target = model_version or model_registry.alias(settings, PREVIOUS)
    if target in {None, champion}:
        raise ConfigError(
            f"version: must be an earlier champion than {champion}, got {target or 'none'}. "
            "`bincount history` lists them; name one."
        )
    if model_version and model_version not in {move.champion for move in champion_moves(settings)}:
        raise ConfigError(
            f"version: must have been champion, got {model_version}, which never was. "
            "Promote it, or see `bincount history`."
        )
    assert target is not None
    version, actor = model_registry.version_of(settings, champion), actor or whoami()
    model_registry.version_of(settings, target)  # raises if it was deleted
    sentence = f"Rolled back to version {target} by {actor}{f': {reason}' if reason else ''}."
    # Written first: a process killed in between must not leave a version that would be promoted again.
    decision = new_decision(settings, target, outcome=REFUSED, reason=sentence, by=actor)
    write_decision(settings, champion, decision, "By hand", sentence)
    move_champion(settings, target, instead_of=champion, actor=actor, reason=reason or "rolled back")
    write_result(settings, version, promoted=False, reason=sentence)
    _log.info("version %s: %s", champion, sentence)
    return {"model_version": target, "instead_of": champion, "reason": sentence}


def history(settings: Settings) -> dict:
    """Every move of the champion alias, the latest first.

    Args:
        settings: Names the tracking server.

    Returns:
        `moves`, each with `at`, `champion`, `instead_of`, `actor` and `reason`.

    Raises:
        ConfigError: If no version was ever registered.
        StoreError: If the tracking server does not answer.
    """
    return {"moves": [asdict(move) for move in reversed(champion_moves(settings))]}
