"""`bincount up`: the whole chain on this machine, with its UIs and the model server."""

from __future__ import annotations

import argparse
import signal

from bincount.core.config import ChainConfig, check_range
from bincount.edge.settings import Settings
from bincount.local.chain_run import ChainRun
from bincount.local.ports import check_ports
from bincount.local.stack import PORT_FLAGS, Ports, Stack, add_port_arguments
from bincount.local.supervise import Supervisor


def add_up_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `bincount up`."""
    parser.add_argument(
        "--source",
        default="sample",
        help='"sample" for bins that bincount renders (default), a folder in the bucket\'s layout, or s3://BUCKET',
    )
    parser.add_argument("--limit", type=int, metavar="N", help="how many bins to draw (default: all)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="what every random choice is drawn from")
    parser.add_argument(
        "--partitions",
        type=int,
        default=1,
        metavar="N",
        help="how many tasks share fetching and features (default: 1)",
    )
    parser.add_argument(
        "--once", action="store_true", help="end after the first verified served prediction, or when the run fails"
    )
    add_port_arguments(parser)


def up(args: argparse.Namespace) -> int:
    """Starts the stack, runs the chain once and, unless `--once`, stays until it is stopped.

    Args:
        args: What `add_up_arguments` reads.

    Returns:
        The exit status: 0 if the run was green, 1 if it failed, 130 if it was stopped before its end.

    Raises:
        ConfigError: If a flag is wrong, such as a taken port.
        StoreError: If a part of the stack ends or does not answer.
    """
    ChainConfig(source=args.source, limit=args.limit, seed=args.seed)  # refuses what the DAG would refuse later
    check_range("--partitions", args.partitions, 1, 64)
    ports = Ports(**{name: getattr(args, f"{name}_port") for name in PORT_FLAGS})
    settings = Settings.from_env()
    stack = Stack(ports, workspace=settings.workspace)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, _stop)
    status = 130
    try:
        with Supervisor(stack.home) as supervisor:
            served = not args.source.startswith("s3://")
            check_ports({f"--{name}-port": getattr(ports, name) for name in PORT_FLAGS if served or name != "bucket"})
            run = ChainRun(supervisor, stack, settings)
            run.start(args.source)
            asked = {name: getattr(args, name) for name in ("limit", "seed", "partitions")}
            status = run.follow({"source": run.source, **asked})
            if not args.once:
                print("\nCtrl-C stops everything.", flush=True)
                run.stay()
    except KeyboardInterrupt:
        print("\nstopped.", flush=True)
    return status


def _stop(*_: object) -> None:
    # What comes after the first must not break off the ending of the parts.
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    raise KeyboardInterrupt
