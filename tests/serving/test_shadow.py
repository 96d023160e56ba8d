"""`bincount serve --log --shadow` as it runs: another version answers the same requests, and nobody notices."""

import os
import re
import signal

import pytest

from bincount.client import Client
from bincount.locks import exclusive_lock
from bincount.mismatch.answer import same_answer
from bincount.tracking import model_registry
from bincount.tracking.client import mlflow_client
from tests.serving.logged import rows_in
from tests.serving.versions import PHOTOS, about, get, name, register_version, serving, wait_until, workers_of
from tests.stores import make_settings


def samples_of(url, metric):
    """Values of a metric by its labels."""
    text = get(url, "/metrics")[1].decode()
    return {labels: float(value) for labels, value in re.findall(rf"^{metric}{{(.*)}} (.*)$", text, re.M)}


def shadows_of(process):
    """Ids of the workers that run at low priority."""
    return [pid for pid in workers_of(process) if os.getpriority(os.PRIO_PROCESS, pid) == 19]


@pytest.mark.timeout(400)
def test_a_challenger_answers_in_the_background_and_can_be_killed(tmp_path):
    settings, log = make_settings(tmp_path), tmp_path / "log"
    champion, answers = register_version(settings, seed=1)
    challenger, others = register_version(settings, seed=2)
    name(settings, champion)
    with serving(settings, f"--log={log}", "--shadow=challenger") as (url, process), Client(url, retries=0) as client:
        wait_until(lambda: get(url, "/ready")[0] == 200)
        assert about(url)["shadow"]["version"] is None
        client.count(PHOTOS[:1])
        assert samples_of(url, "bincount_shadow_requests_total") == {'outcome="dropped",version=""': 1}
        name(settings, challenger, model_registry.CHALLENGER)
        wait_until(lambda: about(url)["shadow"]["version"] == challenger)

        got = client.count(PHOTOS, [3, 3, None, 3, 3])
        assert all(map(same_answer, got, answers))
        answered = f'outcome="answered",version="{challenger}"'
        wait_until(lambda: samples_of(url, "bincount_shadow_requests_total").get(answered) == 1)

        assert len(workers_of(process)) == 2
        (killed,) = shadows_of(process)
        os.kill(killed, signal.SIGKILL)
        for _ in range(20):
            assert client.count(PHOTOS, [3, 3, None, 3, 3]) == got
        wait_until(lambda: about(url)["shadow"]["version"] == challenger and shadows_of(process) not in ([], [killed]))
        before = samples_of(url, "bincount_shadow_requests_total")[answered]
        client.count(PHOTOS)
        wait_until(lambda: samples_of(url, "bincount_shadow_requests_total")[answered] > before)
        assert b"bincount_swaps_total 1.0" in get(url, "/metrics")[1]

        with mlflow_client(settings, "tests") as registry:
            registry.delete_registered_model_alias(model_registry.MODEL, model_registry.CHALLENGER)
        wait_until(lambda: about(url)["shadow"]["version"] is None and len(workers_of(process)) == 1)

        wait_until(lambda: samples_of(url, "bincount_log_rows_total")['outcome="written"'] >= 10)
        client.count(PHOTOS[:1])
        process.kill()
        process.wait()
        with exclusive_lock(log / ".lock", "test", timeout_s=20):  # what the listener had handed over is written
            rows = rows_in(log)
    served = [row for row in rows if row["role"] == "served"]
    assert 1 + 5 + 20 * 5 + 5 <= len(served) <= 1 + 5 + 20 * 5 + 5 + 1
    assert {row["version"] for row in served} == {champion}
    assert [row["recorded"] for row in served[1:6]] == [3, 3, None, 3, 3]
    shadow = [row for row in rows if row["role"] == "shadow" and row["status"] == 200]
    assert {row["version"] for row in shadow} == {challenger}
    of = {(row["request"], row["row"]): row for row in served}
    for row in shadow:
        twin = of[row["request"], row["row"]]
        assert (twin["digest"], twin["recorded"], twin["time"]) == (row["digest"], row["recorded"], row["time"])
        assert row["count"] == others[row["row"]]["count"]
