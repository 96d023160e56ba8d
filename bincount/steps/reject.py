"""A person's no to a version that the gate would let pass."""

from __future__ import annotations

import logging

from bincount.core.errors import ConfigError
from bincount.edge import champion as champions
from bincount.edge import registry, runs
from bincount.edge.registry import CHAMPION
from bincount.edge.settings import Settings
from bincount.steps.decision import new_decision, write_decision, write_outcome

_log = logging.getLogger(__name__)


def reject(settings: Settings, *, model_version: str, why: str | None = None, who: str | None = None) -> dict:
    """Keeps a version from becoming champion, as long as the champion is the one of now.

    Args:
        settings: Where things are on this machine.
        model_version: The version, such as "3".
        why: For what reason.
        who: Who says so; the user of this process where None.

    Returns:
        `promoted`, which is false, and `reason`, one sentence.

    Raises:
        ConfigError: If there is no such version, or it is the champion.
        StoreError: If the tracking server does not answer.
    """
    version, champion = registry.version_of(settings, model_version), registry.alias(settings, CHAMPION)
    if champion == model_version:
        raise ConfigError(
            f"version {model_version}: must not be champion to be rejected, got the champion. Try `bincount rollback`."
        )
    who = who or champions.whoami()
    reason = f"Not promoted: rejected by {who}{f': {why}' if why else ''}."
    kept = new_decision(settings, champion, agreed=False, reason=reason, by=who)
    write_decision(settings, model_version, kept, "By hand", reason)
    write_outcome(settings, version, promoted=False, reason=reason)
    runs.finish_run(settings, version.run_id)
    _log.info("version %s: %s", model_version, reason)
    return {"promoted": False, "reason": reason}
