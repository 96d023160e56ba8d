"""The `bincount` command: one verb a step, JSON on stdout, log on stderr."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import asdict
from typing import Any

from bincount.core.config import ChainConfig
from bincount.core.errors import BincountError
from bincount.edge.disk import writing
from bincount.edge.settings import Settings
from bincount.local.clean import add_clean_arguments
from bincount.local.clean import clean as clean_verb
from bincount.local.stack import PORT_FLAGS, add_port_arguments
from bincount.local.up import add_up_arguments
from bincount.local.up import up as up_verb
from bincount.serving.serve import add_serve_arguments
from bincount.serving.serve import serve as serve_verb
from bincount.steps.process import EXIT_CODES
from bincount.verbs import CHAIN_FLAGS, COUNT_COST, MISS_COST, STEPS, VERSION


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one verb and exits: 0, 1 for the unexpected, or a code of `EXIT_CODES`."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # unwinds, so that clean-up is done
    try:
        status = args.run(args)
    except BincountError as error:
        print(f"bincount {args.verb}: {error}", file=sys.stderr)
        sys.exit(next((code for code, kind in EXIT_CODES.items() if isinstance(error, kind)), 1))
    except KeyboardInterrupt:
        print(f"bincount {args.verb}: stopped.", file=sys.stderr)
        sys.exit(130)
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bincount", description="Count the items in warehouse bins from photos.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def add(name: str, purpose: str, example: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=purpose, description=purpose, epilog=f"example: {example}")

    for name, (purpose, flags, example) in STEPS.items():
        step = add(name, purpose, example)
        for flag, how in flags:
            if flag == VERSION[0]:
                _add_version(step, required=name != "rollback")
            else:
                step.add_argument(flag, **how)
        step.set_defaults(run=_run_of(name))

    run = add("run", "Run the whole chain here, without Airflow.", "bincount run --source ../shared/abid --limit 400")
    for flag, how in CHAIN_FLAGS:
        run.add_argument(flag, **how)
    run.set_defaults(run=_run_chain)

    predict = add("predict", "Count the items in photos with a registered model.", "bincount predict bin.jpg")
    predict.add_argument("files", nargs="+", metavar="FILE", help="JPEG or PNG photos")
    predict.add_argument("--model", default="models:/bincount@champion", help="MLflow URI (default: the champion)")
    predict.set_defaults(run=_predict)

    what, example = "Take back what counting found; say what it was worth.", "bincount outcomes import counts.csv"
    outcomes = add("outcomes", what, example).add_subparsers(required=True, metavar="import")
    imported = outcomes.add_parser("import", help=what, description=what, epilog=f"example: {example}")
    imported.add_argument("file", metavar="FILE", help="CSV or parquet with id, counted, when and by")
    imported.add_argument(
        "--worklist", default="worklist", metavar="DIR", help="folder that reconcile wrote (default: worklist)"
    )
    for flag, how in (COUNT_COST, MISS_COST):
        imported.add_argument(flag, **how)
    imported.set_defaults(run=_run_of("import_outcomes"))

    serve = add("serve", "Serve the champion, and each later one without a pause.", "bincount serve --port 5001")
    add_serve_arguments(serve)
    serve.set_defaults(run=serve_verb)

    up = add("up", "Run the chain once on this machine and keep its UIs and the model server up.", "bincount up --once")
    add_up_arguments(up)
    up.set_defaults(run=up_verb)

    doctor = add("doctor", "Say what is missing on this machine, and what to do about it.", "bincount doctor")
    doctor.add_argument("--server", action="store_true", help="look at the stack of docker-compose.yml instead")
    add_port_arguments(doctor)
    doctor.set_defaults(run=_doctor)

    clean = add("clean", "Show what takes how much room; free what no model or run needs.", "bincount clean --yes")
    add_clean_arguments(clean)
    clean.set_defaults(run=clean_verb)
    return parser


def _add_version(step: argparse.ArgumentParser, *, required: bool) -> None:
    """People write `promote 3`, tasks `promote --model-version=3`."""
    either = step.add_mutually_exclusive_group(required=required)
    either.add_argument(
        "model_version", nargs="?", default=argparse.SUPPRESS, metavar="VERSION", help=VERSION[1]["help"]
    )
    either.add_argument(VERSION[0], default=argparse.SUPPRESS, metavar="N", help="the same")


def _run_of(name: str) -> Callable[[argparse.Namespace], None]:
    def run(args: argparse.Namespace) -> None:
        step = getattr(importlib.import_module(f"bincount.steps.{name}"), name)
        settings, options = Settings.from_env(), _options(args)
        run_id = options.get("run_id")
        with _marking_failed(settings, run_id) if run_id else nullcontext():
            _print_answer(lambda: step(settings, **options))

    return run


def _marking_failed(settings: Settings, run_id: str) -> AbstractContextManager[None]:
    """Lets MLflow's UI show that a step of the run did not reach its end."""
    from bincount.edge import runs

    return runs.marking_failed(settings, run_id)


def _run_chain(args: argparse.Namespace) -> None:
    from bincount.steps.chain import run_chain

    _print_answer(lambda: run_chain(Settings.from_env(), ChainConfig(**_options(args))))


def _predict(args: argparse.Namespace) -> None:
    from bincount.steps.predict import predict

    _print_answer(lambda: predict(Settings.from_env(), **_options(args)))


def _doctor(args: argparse.Namespace) -> int:
    """Prints the findings; 0 if all that is needed is there, else 1."""
    if args.server:
        from bincount.server.doctor import server_findings

        findings = server_findings()
    else:
        from bincount.local.doctor import machine_findings

        ports = {name: getattr(args, f"{name}_port") for name in PORT_FLAGS}
        findings = machine_findings(Settings.from_env(), ports)
    _print_answer(lambda: [asdict(finding) for finding in findings])
    return 0 if all(finding.ok or not finding.needed for finding in findings) else 1


def _options(args: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(args).items() if name not in ("verb", "run")}


def _print_answer(work: Callable[[], object]) -> None:
    """Prints what `work` returns as JSON, and nothing that libraries say on the way: stdout is for the answer."""
    with redirect_stdout(sys.stderr), writing(Settings.from_env().workspace):
        answer = work()
    json.dump(answer, sys.stdout, indent=2, ensure_ascii=False)
    print()
