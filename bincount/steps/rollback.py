"""Goes back to the champion before, in seconds: nothing is measured or loaded."""

from __future__ import annotations

import logging

from bincount.core.errors import ConfigError
from bincount.edge import champion as champions
from bincount.edge import registry
from bincount.edge.registry import CHAMPION, PREVIOUS
from bincount.edge.settings import Settings
from bincount.steps.decision import new_decision, write_decision, write_outcome

_log = logging.getLogger(__name__)


def rollback(
    settings: Settings, *, model_version: str | None = None, why: str | None = None, who: str | None = None
) -> dict:
    """Makes an earlier champion the champion again, and the champion the previous one.

    The version that had to go is not promoted again against this champion,
    unless somebody insists (`promote` with `force`). The running server checks
    the version it goes back to before it answers with it, as any other.

    Args:
        settings: Where things are on this machine.
        model_version: An earlier champion's version; the previous one where None.
        why: For what reason.
        who: Who does it; the user of this process where None.

    Returns:
        `model_version`, which is champion now, `instead_of`, and `reason`, one sentence.

    Raises:
        ConfigError: If there is no champion, none before it, or the named version was never champion.
        StoreError: If the tracking server does not answer, or a promotion came between.
    """
    champion = registry.alias(settings, CHAMPION)
    if champion is None:
        raise ConfigError("champion: there must be one to go back from, got none. Promote a version.")
    target = model_version or registry.alias(settings, PREVIOUS)
    if target in {None, champion}:
        raise ConfigError(
            f"version: must be an earlier champion than {champion}, got {target or 'none'}. "
            "`bincount history` lists them; name one."
        )
    if model_version and model_version not in {move.champion for move in champions.moves(settings)}:
        raise ConfigError(
            f"version: must have been champion, got {model_version}, which never was. "
            "Promote it, or see `bincount history`."
        )
    assert target is not None
    version, who = registry.version_of(settings, champion), who or champions.whoami()
    registry.version_of(settings, target)  # it may have been deleted
    reason = f"Rolled back to version {target} by {who}{f': {why}' if why else ''}."
    # Noted first: whoever is killed in between must not leave a version that would be promoted again.
    kept = new_decision(settings, target, agreed=False, reason=reason, by=who)
    write_decision(settings, champion, kept, "By hand", reason)
    champions.crown(settings, target, instead_of=champion, who=who, why=why or "rolled back")
    write_outcome(settings, version, promoted=False, reason=reason)
    _log.info("version %s: %s", champion, reason)
    return {"model_version": target, "instead_of": champion, "reason": reason}
