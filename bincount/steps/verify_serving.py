"""Asks the running model server whether it serves a version, and serves it right."""

from __future__ import annotations

import logging
import time

from bincount.core.errors import ConfigError, StoreError
from bincount.edge import registry
from bincount.edge.about_server import about_server, invocations_url
from bincount.edge.settings import Settings
from bincount.steps.golden import read_golden
from bincount.steps.served import within_of, wrong_with

_log = logging.getLogger(__name__)
_PAUSE_S = 1.0


def verify_serving(settings: Settings, *, model_version: str, timeout_s: float = 180) -> dict:
    """Waits until the model server answers as a version does, and refuses what is no photo.

    Args:
        settings: Names the server, and where the version's golden bins are.
        model_version: The version that should be served.
        timeout_s: How long to keep asking; a server may be starting.

    Returns:
        `verified`, the number of golden bins answered right, and `url`.

    Raises:
        ConfigError: If no server is named, or there is no such version.
        StoreError: If in all that time the server did not answer, answered as
            another version would, or took what is no photo; it says which.
    """
    if settings.serving_url is None:
        raise ConfigError("BINCOUNT_SERVING_URL: must name the model server, got nothing. Set it to http://HOST:PORT.")
    url = invocations_url(settings.serving_url)
    version = registry.version_of(settings, model_version)
    golden = read_golden(settings, version.run_id)
    until = time.monotonic() + timeout_s
    while True:
        patience_s = max(1.0, min(60.0, until - time.monotonic()))  # of one request
        wrong = _other_version(settings, model_version)
        wrong = wrong or wrong_with(
            url, golden, token=settings.serving_token, timeout_s=patience_s, within=within_of(version)
        )
        if wrong is None:
            _log.info("%s serves version %s", url, model_version)
            return {"verified": len(golden), "url": url}
        if time.monotonic() > until:
            raise StoreError(
                f"{url}: must serve version {model_version} within {timeout_s:.0f} s, got: {wrong} "
                "Check the server's log, and which version it loaded."
            )
        _log.debug("not yet: %s", wrong)
        time.sleep(_PAUSE_S)


def _other_version(settings: Settings, model_version: str) -> str | None:
    """Says so where the server names another version; plain `mlflow models serve` names none."""
    served = about_server(str(settings.serving_url), token=settings.serving_token).get("version")
    return None if served in (None, model_version) else f"it still serves version {served}."
