"""`bincount serve`: the model server that follows an alias."""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import logging
import math
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from bincount.errors import ConfigError, StoreError
from bincount.locks import exclusive_lock
from bincount.serving.admission import RequestLimits
from bincount.settings import Settings
from bincount.tracking import model_registry

if TYPE_CHECKING:
    from bincount.serving.prediction_log import PredictionLog
    from bincount.serving.shadow import Shadow

_log = logging.getLogger(__name__)

_HELP = {
    "body_mb": "largest body of a request in MB",
    "rows": "most rows in a request",
    "megapixels": "most megapixels of a request's photos together",
    "waiting": "most requests at a time",
    "time_s": "longest time for a request in seconds",
}
_LOG_MB, _LOCK_S = 1000.0, 15.0
# Longer than any load balancer keeps a connection, so that the balancer closes it and never the server.
_KEEP_ALIVE_S = 650
_MLFLOW = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""For the process as a whole: one thread asks for the alias while another fetches a version."""


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `bincount serve`."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--alias", default=model_registry.CHAMPION, help="which version to follow (default: champion)")
    which.add_argument("--model-version", metavar="N", help="serve this version and follow nothing")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, default=5001, help="port to listen on (default: 5001)")
    parser.add_argument(
        "--probation-s",
        type=float,
        default=60.0,
        metavar="S",
        help="how long the version before stays loaded, to go back at once (default: 60)",
    )
    parser.add_argument("--log", metavar="DIR", help="folder for a log of the answers, one row a photo (default: none)")
    parser.add_argument(
        "--log-mb",
        type=float,
        metavar="N",
        help=f"largest size of that folder in MB; the oldest files go first (default: {_LOG_MB:g})",
    )
    parser.add_argument("--log-photos", action="store_true", help="keep the photos in that folder, too")
    parser.add_argument(
        "--shadow",
        metavar="ALIAS|N",
        help="alias or version that answers the same requests in the background; needs --log (default: none)",
    )
    for field in dataclasses.fields(RequestLimits):
        parser.add_argument(
            f"--max-{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            metavar="N",
            help=f"{_HELP[field.name]} (default: {field.default:g})",
        )


def serve(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or Ctrl-C, then finishes what it has begun.

    Args:
        args: What `add_serve_arguments` reads.

    Returns:
        The exit status: 0 once everything is answered and ended.

    Raises:
        ConfigError: If a flag is wrong, or the port is taken.
    """
    settings = Settings.from_env()
    for name, value in _MLFLOW.items():
        os.environ.setdefault(name, value)
    limits = RequestLimits(
        **{field.name: getattr(args, f"max_{field.name}") for field in dataclasses.fields(RequestLimits)}
    )
    _check(args, limits, settings.serving_token)
    _check_log(args)
    import uvicorn

    from bincount.serving.follower import AliasWatch, Follower, FollowRules
    from bincount.serving.listener import Listener
    from bincount.serving.worker_handle import FETCHING

    pinned, alias = args.model_version, None if args.model_version else args.alias
    watch = AliasWatch(lambda: pinned or model_registry.alias(settings, args.alias))
    follower = Follower(settings, watch, limits, FollowRules(probation_s=args.probation_s))
    log, shadow = _log_and_shadow(args, settings, limits)
    listener = Listener(follower, alias, limits, settings.serving_token, log, shadow)
    config = uvicorn.Config(
        listener.app,
        host=args.host,
        port=args.port,
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(limits.time_s) + 1,
    )
    for name in ("uvicorn.error", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    _log.info("listening on http://%s:%d for %s", args.host, args.port, alias or f"version {pinned}")
    # uvicorn answers the requests that it has begun and then raises the signal again; these handlers ignore it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        uvicorn.Server(config).run()
    except SystemExit:
        raise ConfigError(
            f"--port: must be free on {args.host}, got {args.port}. Stop what listens there, or name another port."
        ) from None
    if any(thread.name == FETCHING for thread in threading.enumerate()):
        logging.shutdown()
        os._exit(0)  # Python would wait for a download that hangs
    return 0


def _log_and_shadow(
    args: argparse.Namespace, settings: Settings, limits: RequestLimits
) -> tuple[PredictionLog | None, Shadow | None]:
    from bincount.serving.follower import AliasWatch, Follower, FollowRules
    from bincount.serving.log_writer import LogSettings
    from bincount.serving.prediction_log import PredictionLog
    from bincount.serving.shadow import Shadow
    from bincount.serving.worker_handle import LOW_PRIORITY

    if args.log is None:
        return None, None
    log = PredictionLog(LogSettings(args.log, args.log_mb or _LOG_MB, args.log_photos), limits)
    if args.shadow is None:
        return log, None
    pinned = args.shadow if args.shadow.isdecimal() else None
    watch = AliasWatch(lambda: pinned or model_registry.alias(settings, args.shadow))
    # Nobody waits for its answers, so there is no version to go back to.
    follower = Follower(settings, watch, limits, FollowRules(probation_s=0.0, keeps_last=False), LOW_PRIORITY)
    return log, Shadow(args.shadow, follower, limits, log)


def _check_log(args: argparse.Namespace) -> None:
    for flag, given in (("--log-mb", args.log_mb), ("--log-photos", args.log_photos), ("--shadow", args.shadow)):
        if given not in (None, False) and args.log is None:
            raise ConfigError(f"{flag}: must stand with --log, got it alone. Name a folder with --log.")
    if args.log is None:
        return
    if args.log_mb is not None and not 1 <= args.log_mb < math.inf:
        raise ConfigError(f"--log-mb: must be a number >= 1, got {args.log_mb:g}. Leave it out for the default.")
    if args.shadow is not None and args.shadow == (args.model_version or args.alias):
        raise ConfigError(
            f"--shadow: must be another version than the one that serves, got {args.shadow} for both. Name another."
        )
    from bincount.serving.log_writer import LOCK

    folder = Path(args.log)
    try:
        with exclusive_lock(folder / LOCK, "--log", timeout_s=_LOCK_S):
            pass
    except StoreError:
        raise ConfigError(
            f"--log: must be a folder to which no other server writes, got {folder}. Name another one."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"--log: must be a folder that can be written, got {folder} ({error.strerror}). Name another one."
        ) from None


def _check(args: argparse.Namespace, limits: RequestLimits, token: str | None) -> None:
    for name, value in dataclasses.asdict(limits).items():
        if not value > 0:
            raise ConfigError(f"--max-{name.replace('_', '-')}: must be > 0, got {value}. Leave it out.")
    if args.probation_s < 0:
        raise ConfigError(f"--probation-s: must be >= 0, got {args.probation_s}. Leave it out for the default.")
    if token is None and not _is_loopback(args.host):
        print(
            f"bincount serve: anyone who reaches {args.host} may ask. Set BINCOUNT_SERVING_TOKEN to keep others out.",
            file=sys.stderr,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
