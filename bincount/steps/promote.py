"""Makes a version the champion: if the gate agrees and it can be served, or because a person insists."""

from __future__ import annotations

import logging

from bincount.core.errors import ConfigError
from bincount.edge import champion as champions
from bincount.edge import registry, runs
from bincount.edge.registry import CHAMPION
from bincount.edge.settings import Settings
from bincount.steps.ask_gate import ask_gate
from bincount.steps.check_serving import check_serving, kept_check
from bincount.steps.decision import NOBODY, new_decision, write_decision, write_outcome

_log = logging.getLogger(__name__)

_ATTEMPTS = 5  # whoever is overtaken more often should look what is going on


def promote(
    settings: Settings,
    *,
    model_version: str,
    force: bool = False,
    why: str | None = None,
    who: str | None = None,
    against: str | None = None,
) -> dict:
    """Moves the alias "champion" to a version, if it may.

    The gate's answer and the serving check are taken from the version where
    they still hold (`ask_gate`, `check_serving`), and asked for otherwise. If
    another version becomes champion meanwhile, the gate is asked again.

    Args:
        settings: Where things are on this machine.
        model_version: The version, such as "3".
        force: Whether to ask neither.
        why: For what reason; must be given to `force`, is the gate's otherwise.
        who: Who does it; the user of this process where None.
        against: The champion's version, or "none", that somebody has approved
            this one against: it is not promoted against any other.

    Returns:
        `promoted` and `reason`, one sentence.

    Raises:
        ConfigError: If there is no such version, or `force` has no `why`.
        StoreError: If the tracking server does not answer, or other promotions
            keep coming between.
    """
    version = registry.version_of(settings, model_version)
    who = who or champions.whoami()
    for attempt in range(1, _ATTEMPTS + 1):
        champion = registry.alias(settings, CHAMPION)
        promoted, reason = (
            (True, _forced(settings, model_version, champion, who, why))
            if force
            else _may(settings, model_version, champion, against)
        )
        try:
            if promoted and champion != model_version:
                champions.crown(settings, model_version, instead_of=champion, who=who, why=why or reason)
            break
        except champions.Overtaken as error:
            if attempt == _ATTEMPTS:
                raise
            _log.info("%s", error)
    _log.info("version %s: %s", model_version, reason)
    write_outcome(settings, version, promoted=promoted, reason=reason)
    runs.finish_run(settings, version.run_id)
    return {"promoted": promoted, "reason": reason}


def _may(settings: Settings, model_version: str, champion: str | None, against: str | None) -> tuple[bool, str]:
    if against not in {None, champion or NOBODY} and champion != model_version:
        other = champion or NOBODY
        return False, f"Not promoted: it was approved against champion {against}, and the champion is {other} now."
    gate = ask_gate(settings, model_version=model_version)
    if not gate["agreed"] or champion == model_version:
        return gate["agreed"], gate["reason"]
    checked = kept_check(registry.version_of(settings, model_version))
    checked = checked or check_serving(settings, model_version=model_version)
    return (True, gate["reason"]) if checked["servable"] else (False, f"Not promoted: {checked['found']}.")


def _forced(settings: Settings, model_version: str, champion: str | None, who: str, why: str | None) -> str:
    if not why:
        raise ConfigError("--why: must say why the gate is overruled, got nothing. People will read it.")
    reason = f"Promoted by {who} without the gate: {why}"
    kept = new_decision(settings, champion, agreed=True, reason=reason, by=who)
    write_decision(settings, model_version, kept, "By hand", reason)
    return reason
