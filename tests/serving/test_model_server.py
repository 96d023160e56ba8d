"""From a run to `mlflow models serve`: the very command, asked as a client asks."""

import base64
import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from bincount.client import count_bins
from bincount.errors import DataError
from bincount.evaluate.evaluate import evaluate
from bincount.registry.golden import read_golden
from bincount.registry.promotion import promote
from bincount.registry.register import register
from bincount.registry.serving_check import verify_serving
from bincount.tracking import model_registry
from tests.evaluate.trained import cheat, open_trained_run, write_manifest
from tests.processes import free_ports
from tests.stores import make_settings
from tests.tiny import photo


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A champion behind `mlflow models serve`: its settings, its version and the server's address."""
    place = tmp_path_factory.mktemp("served")
    settings = make_settings(place)
    run_id = open_trained_run(settings, write_manifest(settings))
    evaluate(settings, run_id=run_id)
    version = register(settings, run_id=run_id)["model_version"]
    cheat(settings, run_id, lambda record: True)
    assert promote(settings, model_version=version)["promoted"]  # after `bincount serve` has answered right
    assert "met: served, it answers 5 golden bins" in model_registry.version_of(settings, version).description
    port = free_ports(1)[0]
    # Not the directory of the checkout: the installed package must do.
    command = [Path(sys.executable).with_name("mlflow"), "models", "serve", "-m", "models:/bincount@champion"]
    command += ["--env-manager", "local", "--port", str(port)]
    named = {"MLFLOW_TRACKING_URI": settings.tracking_uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    # MLflow starts uvicorn by its name.
    named["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (place / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=place, env=os.environ | named, stdout=log, stderr=log, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            settings = dataclasses.replace(settings, serving_url=url)
            try:
                answer = verify_serving(settings, model_version=version, timeout_s=120)
            except Exception:
                print((place / "server.log").read_text())
                raise
            assert answer == {"verified": 5, "url": f"{url}/invocations"}
            yield settings, version, url
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def ask(url, body, content_type="application/json"):
    """Status and answer of a request, whatever they are."""
    request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": content_type})  # noqa: S310 http
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 http
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def split(*photos, columns=("image",)):
    rows = [[base64.b64encode(each).decode()] for each in photos]
    return json.dumps({"dataframe_split": {"columns": list(columns), "data": rows}}).encode()


def test_the_answer_has_the_promised_form(served):
    _, _, url = served
    status, answer = ask(url, split(photo()))
    assert status == 200
    (prediction,) = answer["predictions"]
    assert list(prediction) == ["count", "confidence", "probabilities", "low", "high"]
    assert 1 <= prediction["low"] <= prediction["count"] <= prediction["high"] <= 5
    assert list(prediction["probabilities"]) == ["1", "2", "3", "4", "5"]
    assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert prediction["confidence"] == max(prediction["probabilities"].values())
    assert prediction["probabilities"][str(prediction["count"])] == prediction["confidence"]


@pytest.mark.parametrize("form", ["json", "parquet of floats", "parquet of integers"])
def test_a_recorded_count_is_answered_with_a_verdict(served, form):
    """4, none and 9 recorded; 9 is none of the counts 1 to 5."""
    import pyarrow
    from pyarrow import parquet

    recorded = [4, None, 9]
    if form == "json":
        rows = [{"image": base64.b64encode(photo()).decode(), "recorded": value} for value in recorded]
        body, kind = json.dumps({"dataframe_records": rows}).encode(), "application/json"
    else:
        buffer = io.BytesIO()
        column = pyarrow.array(recorded, pyarrow.float64() if "float" in form else pyarrow.int16())
        parquet.write_table(pyarrow.table({"image": [photo()] * 3, "recorded": column}), buffer)
        body, kind = buffer.getvalue(), "application/vnd.apache.parquet"
    status, answer = ask(served[2], body, kind)
    assert status == 200, answer
    judged, plain, outside = answer["predictions"]
    assert judged["verdict"] in ("match", "mismatch", "unsure")
    assert judged["direction"] in ("fewer", "more")
    assert 0 < judged["mismatch_probability"] < 1
    assert judged == plain | {name: judged[name] for name in ("mismatch_probability", "direction", "verdict")}
    assert "verdict" not in plain
    assert (outside["verdict"], outside["mismatch_probability"], outside["direction"]) == ("not_countable", None, None)


@pytest.mark.parametrize("photos", [2, 5])
def test_the_client_sends_records(served, photos):
    from bincount.client import Client

    with Client(served[2]) as client:
        answers = client.count([photo()] * photos, [4, *[None] * (photos - 1)])
    assert ["verdict" in answer for answer in answers] == [True] + [False] * (photos - 1)


@pytest.mark.parametrize("wrong", [2.5, -1, "3", True])
def test_a_record_that_is_no_count_gets_a_400_that_names_the_row(served, wrong):
    rows = [{"image": base64.b64encode(photo()).decode(), "recorded": value} for value in (1, wrong)]
    status, answer = ask(served[2], json.dumps({"dataframe_records": rows}).encode())
    assert status == 400
    assert answer["message"].startswith("row 1: recorded must be a whole number from 0 to 100000 or null, got ")
    assert "Traceback" not in json.dumps(answer)


def test_many_photos_are_answered_in_order_as_json_and_parquet(served):
    import pandas as pd

    settings, _, url = served
    version_run = next((settings.workspace / "runs").iterdir()).name
    golden = read_golden(settings, version_run)
    photos = [each for _, each, _ in golden]
    counts = [answer["count"] for _, _, answer in golden]
    assert [answer["count"] for answer in count_bins(url, photos)] == counts
    buffer = io.BytesIO()
    pd.DataFrame({"image": photos}).to_parquet(buffer)
    status, answer = ask(url, buffer.getvalue(), "application/vnd.apache.parquet")
    assert status == 200
    assert [each["count"] for each in answer["predictions"]] == counts


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (split(photo(), b"hello"), "row 1: .*JPEG or PNG"),
        (split(photo()[:300]), "row 0: "),
        (split(b""), "row 0: .*JPEG or PNG"),
        (split(), "must hold at least one row, got none. Send .*dataframe_split"),
        (split(photo(), columns=["photo"]), "missing inputs .'image'."),
    ],
    ids=["no image", "cut short", "no bytes", "no row", "no column"],
)
def test_bad_requests_get_a_400_that_says_what_to_send(served, body, words):
    import re

    status, answer = ask(served[2], body)
    assert status == 400
    assert re.search(words, answer["message"]), answer
    assert "stack_trace" not in answer
    assert "Traceback" not in json.dumps(answer)


def test_the_client_passes_the_servers_refusal_on(served):
    with pytest.raises(DataError, match="row 1: "):
        count_bins(served[2], [photo(), b"hello"])


def test_verify_serving_notices_another_model(served):
    """Golden answers of a model that is not the one served."""
    from bincount.errors import StoreError

    settings, version, _ = served
    run_id = next((settings.workspace / "runs").iterdir()).name
    path = settings.run(run_id) / "golden" / "answers.json"
    kept = path.read_text()
    answers = json.loads(kept)
    name = next(iter(answers))
    answers[name]["probabilities"]["1"] += 0.03  # more than bfloat16 excuses
    path.write_text(json.dumps(answers))
    try:
        with pytest.raises(StoreError, match=f"must serve version {version} within 0 s, got: bin {name} should be"):
            verify_serving(settings, model_version=version, timeout_s=0)
    finally:
        path.write_text(kept)
