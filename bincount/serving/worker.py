"""The process that serves one version on a Unix socket.

    python -m bincount.serving.worker VERSION FOLDER LIMITS

It loads the version, compares its answers with the version's golden bins and
reports the result in one line of JSON on its output.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bincount.client import request_of
from bincount.errors import BincountError, DataError, StoreError
from bincount.learn.engine import BFLOAT16
from bincount.mismatch.answer import SAME_WITHIN, SAME_WITHIN_BFLOAT16
from bincount.registry.golden import Golden, difference_of
from bincount.serving.admission import RequestLimits, RequestRefused
from bincount.serving.request_parser import ParsedRequest, parse_request
from bincount.settings import Settings
from bincount.tracking import model_registry

if TYPE_CHECKING:
    from mlflow.pyfunc import PythonModel

_log = logging.getLogger(__name__)

SOCKET = "model.sock"
READY, REFUSED, LATER = "ready", "refused", "later"
"""Keys of the report: it serves; it must not serve; the registry did not answer, so try again."""

_JSON = {"Content-Type": "application/json"}
_KEEP_ALIVE_S = 24 * 3600  # the listener keeps its connections as long as this process lives


def main(argv: list[str]) -> None:
    """Serves until it is killed; ends at once if the version cannot be served."""
    version, folder, limits = argv[0], Path(argv[1]), RequestLimits(**json.loads(argv[2]))
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s version {version}: %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no report

    def say(**what: Any) -> None:
        report.write(json.dumps(what) + "\n")
        report.flush()

    try:
        app, golden, about = _load(version, folder, limits)
        check = partial(_check, folder / SOCKET, golden, about["within"])
        asyncio.run(_serve(app, check, folder / SOCKET, limits, lambda: say(**{READY: about})))
    except StoreError as error:
        _log.warning("%s", error)
        say(**{LATER: "the registry must answer, got no answer"})
    except WrongAnswerError as error:
        say(**{REFUSED: str(error)})
    except Exception as error:
        _log.exception("cannot be served")
        say(**{REFUSED: f"it must load, got {type(error).__name__}. See the server's log."})
    sys.exit(1)


class WrongAnswerError(BincountError):
    """The version gives other answers than it did offline. Shown to clients: no paths."""


def _load(version: str, folder: Path, limits: RequestLimits) -> tuple[Starlette, Golden, dict]:
    from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT

    MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.set(max(1, round(limits.time_s)))
    settings = dataclasses.replace(Settings.from_env(), workspace=folder / "workspace")
    from bincount.registry.golden import read_golden
    from bincount.tracking.client import mlflow_client

    with mlflow_client(settings, f"load version {version} of {model_registry.MODEL}", upload=True) as client:
        from mlflow.artifacts import download_artifacts

        place = client.get_model_version_download_uri(model_registry.MODEL, version)
        found = model_registry.version_of(settings, version)
        (folder / "package").mkdir()
        package = download_artifacts(
            artifact_uri=place, dst_path=str(folder / "package"), tracking_uri=settings.tracking_uri
        )
        golden = read_golden(settings, found.run_id)
    if not golden:
        raise DataError(f"version {version}: must have golden bins, got none. Register it again.")
    from mlflow.pyfunc import load_model

    model = load_model(package).unwrap_python_model()
    # All of it is in memory now; a killed listener leaves no more than a socket behind.
    for used in (folder / "package", settings.workspace):
        shutil.rmtree(used, ignore_errors=True)
    within = SAME_WITHIN_BFLOAT16 if getattr(model, "precision", None) == BFLOAT16 else SAME_WITHIN
    about = {"golden": len(golden), "within": within, "manifest": found.tags.get("bincount.manifest")}
    return app_of(model, limits), golden, about


def app_of(model: PythonModel, limits: RequestLimits) -> Starlette:
    """An app that answers as MLflow's scoring server does with this model, and parses a request once.

    Args:
        model: Takes a table with the columns image and recorded, and answers each row.
        limits: Of each request.
    """
    from mlflow.version import VERSION

    async def invocations(request: Request) -> Response:
        body, content_type = await request.body(), request.headers.get("content-type", "")
        try:
            parsed = await asyncio.to_thread(parse_request, body, content_type, limits)
            answers = await asyncio.to_thread(_answer, model, parsed)
        except RequestRefused as refused:
            return Response(refused.as_json(), refused.status, media_type="application/json")
        return JSONResponse({"predictions": answers})

    async def version(_: Request) -> Response:
        return Response(VERSION, media_type="application/json")

    async def batches(_: Request) -> Response:
        return JSONResponse({str(size): times for size, times in getattr(model, "batches", {}).items()})

    routes = [Route("/invocations", invocations, methods=["POST"]), Route("/version", version)]
    return Starlette(routes=[*routes, Route("/batches", batches)])


# The only messages of a model that clients see: they name a row, and no byte of the photo.
_SHOWN = re.compile(r"row \d+: photo: its pixels must be whole")


def _answer(model: PythonModel, parsed: ParsedRequest) -> list[dict]:
    import pandas as pd
    from mlflow.exceptions import MlflowException

    table = pd.DataFrame({"image": parsed.photos, "recorded": pd.Series(parsed.recorded, dtype=object)})
    try:
        answers = model.predict(None, table)
    except MlflowException as error:
        if shown := _SHOWN.match(str(error)):
            raise RequestRefused(400, f"{shown[0]}. Send the whole file.") from None
        _log.error("counting failed: %s", error)
    except Exception:
        _log.exception("counting failed")
    else:
        if len(answers) == len(table):
            return answers
        _log.error("counting failed: %d answers for %d photos", len(answers), len(table))
    raise RequestRefused(500, "server: counting must succeed, got an error. See its log.")


async def _serve(
    app: Callable[..., Awaitable[None]],
    check: Callable[[], Awaitable[None]],
    socket: Path,
    limits: RequestLimits,
    ready: Callable[[], None],
) -> None:
    import uvicorn

    # Requests are answered in the loop's threads; with the default of six on two processors no batch would be larger.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * limits.waiting))
    config = uvicorn.Config(
        app, uds=str(socket), lifespan="off", access_log=False, log_config=None, timeout_keep_alive=_KEEP_ALIVE_S
    )
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    await check()
    ready()
    await serving


async def _check(socket: Path, golden: Golden, within: float) -> None:
    """Sends the golden bins and something that is no photo, and compares the answers with the offline ones."""
    async with socket_client(socket) as client:
        for name, photo, expected in golden:
            answer = await client.post("/invocations", content=request_of([photo])[0], headers=_JSON)
            if answer.status_code != 200:
                raise WrongAnswerError(f"golden bin {name} must be answered, got HTTP {answer.status_code}.")
            (got,) = answer.json()["predictions"]
            if wrong := difference_of(name, expected, got, within=within):
                raise WrongAnswerError(f"golden {wrong}")
        answer = await client.post("/invocations", content=request_of([b"no photo"])[0], headers=_JSON)
        if answer.status_code != 400:
            raise WrongAnswerError(f"what is no photo must get HTTP 400, got {answer.status_code}.")


def socket_client(socket: Path) -> httpx.AsyncClient:
    """A client of the process that listens on a Unix socket; the listener limits the time of a request."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    transport = httpx.AsyncHTTPTransport(uds=str(socket), limits=limits)
    return httpx.AsyncClient(transport=transport, base_url="http://model", timeout=None, trust_env=False)  # noqa: S113 - the listener limits it


if __name__ == "__main__":
    main(sys.argv[1:])
