"""The process that serves one version on a Unix socket.

    python -m bincount.serving.worker VERSION FOLDER LIMITS

It loads the model of FOLDER, serves it and says so in one line of JSON on its output.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bincount.errors import RowError
from bincount.serving.admission import RequestLimits, RequestRefused
from bincount.serving.bin_counter import BinCounter
from bincount.serving.request_parser import parse_request

_log = logging.getLogger(__name__)

SOCKET, MODEL = "model.sock", "model"
"""Its socket and the model, below its folder."""
READY, REFUSED = "ready", "refused"
"""Keys of the report: the precision in which it serves, or why it cannot."""

_KEEP_ALIVE_S = 24 * 3600  # the listener keeps its connections as long as this process lives


def main(argv: list[str]) -> None:
    """Serves until it is killed; ends at once if the version cannot be served."""
    name, folder, limits = argv[0], Path(argv[1]), RequestLimits(**json.loads(argv[2]))
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s version {name}: %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no report

    def say(**what: Any) -> None:
        report.write(json.dumps(what) + "\n")
        report.flush()

    try:
        counter = BinCounter(folder / MODEL, timeout_s=limits.time_s)
        shutil.rmtree(folder / MODEL)  # in memory now; a killed listener leaves little behind
        ready = partial(say, **{READY: counter.precision})
        _serve(app_of(counter, limits), folder / SOCKET, limits, ready)
    except Exception as error:
        _log.exception("cannot be served")
        say(**{REFUSED: f"it must load, got {type(error).__name__}. See the server's log."})
    sys.exit(1)


def app_of(counter: BinCounter, limits: RequestLimits) -> Starlette:
    """An app that answers as MLflow's scoring server does with the same version, and parses a request once.

    Args:
        counter: The version's model.
        limits: Of each request.
    """

    async def invocations(request: Request) -> Response:
        body, content_type = await request.body(), request.headers.get("content-type", "")
        try:
            answers = await asyncio.to_thread(_answer, counter, body, content_type, limits)
        except RequestRefused as refused:
            return Response(refused.as_json(), refused.status, media_type="application/json")
        return JSONResponse({"predictions": answers})

    async def mlflow_version(_: Request) -> Response:
        return Response(version("mlflow"), media_type="application/json")

    async def batches(_: Request) -> Response:
        return JSONResponse({str(size): times for size, times in counter.batches.items()})

    routes = [Route("/invocations", invocations, methods=["POST"]), Route("/version", mlflow_version)]
    return Starlette(routes=[*routes, Route("/batches", batches)])


def _answer(counter: BinCounter, body: bytes, content_type: str, limits: RequestLimits) -> list[dict]:
    parsed = parse_request(body, content_type, limits)
    try:
        return counter.answer(*parsed)
    except RowError as error:  # the parser has checked all but the pixels; a decoder's own words may quote the photo
        raise RequestRefused(400, f"row {error.row}: photo: its pixels must be whole. Send the whole file.") from None
    except Exception:
        _log.exception("counting failed")
    raise RequestRefused(500, "server: counting must succeed, got an error. See its log.")


def _serve(app: Callable[..., Awaitable[None]], socket: Path, limits: RequestLimits, ready: Callable[[], None]) -> None:
    config = uvicorn.Config(
        app, uds=str(socket), lifespan="off", access_log=False, log_config=None, timeout_keep_alive=_KEEP_ALIVE_S
    )
    server = uvicorn.Server(config)

    async def serve() -> None:
        # Requests are answered in the loop's threads; with the default of six on two processors no batch would be
        # larger.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * limits.waiting))
        serving = asyncio.ensure_future(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        ready()
        await serving

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main(sys.argv[1:])
