"""The worker's endpoint answers what MLflow's scoring server answers with the same version."""

import asyncio
import base64
import io
import json
from pathlib import Path

import httpx
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from bincount.serving.admission import RequestLimits
from bincount.serving.bin_counter import BinCounter
from bincount.serving.request_parser import JSON, PARQUET
from bincount.serving.worker import app_of
from bincount.tracking import model_registry
from tests.serving.versions import PHOTOS, register_version
from tests.stores import make_settings

pytestmark = pytest.mark.filterwarnings("ignore:.*Add type hints to the `predict` method:UserWarning")

TEXTS = [base64.b64encode(photo).decode() for photo in PHOTOS]


class AppClient:
    """Asks an ASGI app without a server."""

    def __init__(self, app):
        self._app = app

    def _ask(self, method, path, **request):
        async def ask():
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                return await client.request(method, path, **request)

        return asyncio.run(ask())

    def get(self, path):
        return self._ask("GET", path)

    def post(self, path, **request):
        return self._ask("POST", path, **request)


@pytest.fixture(scope="module")
def apps(tmp_path_factory):
    """Clients of our app and of MLflow's, with one version."""
    settings = make_settings(tmp_path_factory.mktemp("worker"))
    number, _ = register_version(settings, calibrated=True)
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts
    from mlflow.pyfunc import load_model
    from mlflow.pyfunc.scoring_server import init

    uri = MlflowClient(settings.tracking_uri).get_model_version_download_uri(model_registry.MODEL, number)
    place = tmp_path_factory.mktemp("packed")
    packed = download_artifacts(artifact_uri=uri, dst_path=str(place), tracking_uri=settings.tracking_uri)
    counter = BinCounter(Path(packed) / "artifacts" / "model", timeout_s=60)
    return AppClient(app_of(counter, RequestLimits())), AppClient(init(load_model(packed)))


def table(frame, **how):
    buffer = io.BytesIO()
    frame.to_parquet(buffer, **how)
    return buffer.getvalue()


FRAME = pd.DataFrame({"image": TEXTS, "id": [f"{row:05}" for row in range(5)]}, index=[7, 8, 9, 10, 11])
RECORDED = [1, None, 3, 0, 2.0]
CUBES = [{"quantity": 2, "length": 5, "width": 5, "height": 5, "weight": 0.5}]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"dataframe_split": {"columns": ["image"], "data": [[text] for text in TEXTS]}}, JSON),
        ({"dataframe_split": FRAME.to_dict(orient="split")}, JSON),
        ({"dataframe_records": FRAME.to_dict(orient="records")}, JSON),
        ({"dataframe_records": [{"recorded": 4, "image": text} for text in TEXTS]}, JSON + "; charset=utf-8"),
        (
            {
                "dataframe_records": [
                    {"image": text, "recorded": value} for text, value in zip(TEXTS, RECORDED, strict=True)
                ]
            },
            JSON,
        ),
        ({"dataframe_split": {"columns": ["recorded", "image"], "data": [[2, TEXTS[0]], [None, TEXTS[1]]]}}, JSON),
        ({"dataframe_records": [{"image": TEXTS[1], "before": TEXTS[2], "counted_before": 3, "recorded": 2}]}, JSON),
        (
            {
                "dataframe_split": {
                    "columns": ["image", "before", "counted_before"],
                    "data": [[TEXTS[1], TEXTS[2], 3], [TEXTS[0], None, None], [TEXTS[3], TEXTS[2], 99]],
                }
            },
            JSON,
        ),
        (table(pd.DataFrame({"image": PHOTOS, "before": PHOTOS[::-1], "counted_before": [5, 4, 3, 2, 1]})), PARQUET),
        ({"dataframe_records": [{"image": TEXTS[1], "contents": CUBES, "recorded": 2}]}, JSON),
        (
            {
                "dataframe_split": {
                    "columns": ["image", "before", "counted_before", "contents", "recorded"],
                    "data": [[TEXTS[1], TEXTS[2], 3, CUBES, 2], [TEXTS[0], None, None, None, 1]],
                }
            },
            JSON,
        ),
        (
            table(pd.DataFrame({"image": PHOTOS[:2], "contents": [json.dumps(CUBES), None], "recorded": [2, 3]})),
            PARQUET,
        ),
        (table(pd.DataFrame({"image": PHOTOS})), PARQUET),
        (table(pd.DataFrame({"image": PHOTOS, "id": FRAME.id.to_numpy()}, index=FRAME.index), index=True), PARQUET),
        (table(pd.DataFrame({"image": PHOTOS, "recorded": RECORDED})), PARQUET),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_form_that_mlflow_answers_gets_the_same_answer(apps, body, kind):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    ours, theirs = (app.post("/invocations", content=content, headers={"Content-Type": kind}) for app in apps)
    assert theirs.status_code == 200, theirs.text
    assert ours.status_code == 200, ours.text
    assert ours.json() == theirs.json()
    assert ours.headers["content-type"].partition(";")[0] == theirs.headers["content-type"].partition(";")[0]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": [{"photo": TEXTS[0]}]},
        {"dataframe_records": [{"image": 3}]},
        {"dataframe_split": {"columns": ["image"], "data": [[TEXTS[0], 1]]}},
        {"dataframe_records": [{"image": base64.b64encode(b"no photo").decode()}]},
        {"dataframe_records": [{"image": TEXTS[0], "recorded": -1}]},
        {"dataframe_records": [{"image": TEXTS[0], "counted_before": 3}]},
        {"dataframe_records": [{"image": TEXTS[0], "before": TEXTS[1]}]},
        {"dataframe_records": [{"image": TEXTS[0], "contents": 3}]},
        {"dataframe_records": [{"image": TEXTS[0], "contents": [{"quantity": -1}]}]},
        {"dataframe_records": [{"image": TEXTS[0], "before": "!", "counted_before": 3}]},
        {"dataframe_records": [{"image": TEXTS[0], "before": TEXTS[1], "counted_before": 2.5}]},
        {"rows": []},
        {"instances": [{"image": text} for text in TEXTS]},
        {"inputs": {"image": TEXTS}},
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_mlflow_refuses_is_refused_in_its_form(apps, body):
    ours, theirs = (app.post("/invocations", json=body) for app in apps)
    assert ours.status_code == 400 <= theirs.status_code < 500
    assert set(ours.json()) == {"error_code", "message"}
    assert ours.json()["error_code"] == "BAD_REQUEST"


def test_versions_and_paths_are_mlflows(apps):
    ours, theirs = apps
    assert ours.get("/version").text == theirs.get("/version").text
    assert ours.get("/invocations").status_code == theirs.get("/invocations").status_code == 405
    assert ours.post("/invocations", content=b"x", headers={"Content-Type": "text/html"}).status_code == 415


def test_damaged_pixels_in_one_request_fail_that_request_alone(apps):
    damaged = PHOTOS[0][:-60] + b"\xff\xd9"
    body = {"dataframe_records": [{"image": text} for text in (*TEXTS, base64.b64encode(damaged).decode())]}
    refused = apps[0].post("/invocations", json=body)
    assert refused.status_code == 400
    assert refused.json()["message"] == "row 5: photo: its pixels must be whole. Send the whole file."
    assert apps[0].post("/invocations", json={"dataframe_records": body["dataframe_records"][:5]}).status_code == 200


def test_a_parquet_of_another_writer_is_read(apps):
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table({"image": pyarrow.array(PHOTOS, pyarrow.large_binary())}), buffer)
    answer = apps[0].post("/invocations", content=buffer.getvalue(), headers={"Content-Type": PARQUET})
    assert len(answer.json()["predictions"]) == 5
