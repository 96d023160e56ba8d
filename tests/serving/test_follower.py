"""`bincount serve` as it runs: versions come, are refused, taken back and go, under load."""

import http.client
import io
import json
import os
import signal
import threading
import time
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

from bincount.client import count_bins
from bincount.mismatch.answer import same_answer
from tests.serving.versions import (
    PHOTOS,
    about,
    get,
    name,
    register_version,
    serving,
    wait_until,
    workers_of,
)
from tests.stores import make_settings
from tests.tiny import write_model

WHITE = io.BytesIO()
Image.new("RGB", (60, 40), "white").save(WHITE, "JPEG")


def write_tiring_model(folder, **how):
    """A model that gives no number for a white photo."""
    import keras

    from bincount.learn.engine import load_keras, save_network

    write_model(folder, **how)
    inner = load_keras(folder / "model.keras")
    pixels = keras.Input((32, 32, 3), dtype="uint8")
    mean = keras.ops.mean(keras.ops.cast(pixels, "float32"), axis=(1, 2, 3))
    factor = keras.ops.expand_dims(keras.ops.sqrt(200.0 - mean), 1)  # the padding is grey, so white has some 210
    probabilities = inner(pixels) * factor / factor
    save_network(
        keras.Model(pixels, probabilities), folder / "model.keras", np.zeros((1, 32, 32, 3), np.uint8), scale=1.0
    )


def test_the_first_champion_is_waited_for_and_sigterm_drains(tmp_path):
    settings = make_settings(tmp_path)
    with serving(settings) as (url, process):
        wait_until(lambda: get(url, "/ping")[0] == 200)
        assert get(url, "/ready")[0] == 503
        assert about(url)["version"] is None
        version, answers = register_version(settings, seed=1)
        name(settings, version)
        wait_until(lambda: get(url, "/ready")[0] == 200)
        said = about(url)
        assert (said["version"], said["alias"], said["manifest"]) == (version, "champion", f"{1:016d}")
        assert get(url, "/version")[0] == 200
        (worker,) = workers_of(process)

        os.kill(worker, signal.SIGSTOP)
        got = []
        asking = threading.Thread(target=lambda: got.extend(count_bins(url, PHOTOS[:1])))
        asking.start()
        time.sleep(1)
        assert not got
        process.terminate()
        time.sleep(1)
        os.kill(worker, signal.SIGCONT)
        asking.join()
        assert same_answer(got[0], answers[0])
        assert process.wait(20) == 0
        assert not os.path.exists(f"/proc/{worker}")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_bad_versions_do_not_serve(tmp_path):
    settings = make_settings(tmp_path)

    def other_counts(golden):
        return {row: answer | {"count": answer["count"] % 5 + 1} for row, answer in golden.items()}

    good, answers = register_version(settings, seed=1)
    wrong, _ = register_version(settings, seed=2, golden=other_counts)
    broken, _ = register_version(settings, seed=3, broken=True)
    tiring, _ = register_version(settings, seed=4, write=write_tiring_model)
    name(settings, good)
    with serving(settings) as (url, process):
        wait_until(lambda: get(url, "/ready")[0] == 200)
        for version, words in [(wrong, "golden bin 0 should be"), (broken, "it must load, got DataError")]:
            name(settings, version)
            (refusal,) = wait_until(
                lambda version=version: [r for r in about(url)["refused"] if r["version"] == version]
            )
            assert words in refusal["reason"]
            assert "/" not in refusal["reason"]
            assert about(url)["version"] == good

        name(settings, tiring)
        wait_until(lambda: about(url)["version"] == tiring)
        statuses = [ask(url, WHITE.getvalue())[0] for _ in range(8)]
        assert statuses == [500] * 3 + [200] * 5  # taken back at the third error
        assert about(url)["version"] == good
        assert "3 of its first 3 answers were errors" in about(url)["refused"][-1]["reason"]
        assert b"bincount_refused_versions 3" in get(url, "/metrics")[1]

        name(settings, good)
        wait_until(lambda: about(url)["loading"] is None)
        time.sleep(2)
        (worker,) = workers_of(process)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: get(url, "/ready")[0] == 503)
        wait_until(lambda: get(url, "/ready")[0] == 200)
        assert same_answer(count_bins(url, PHOTOS[:1])[0], answers[0])


def ask(url, photo):
    """Status and answer of one photo sent as JSON."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    try:
        return ask_on(connection, photo)[:2]
    finally:
        connection.close()


def ask_on(connection, photo):
    import base64

    body = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(photo).decode()]]}})
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read()), response.headers["X-Bincount-Version"]


class Load:
    """Clients that ask one photo after the other on a kept-alive connection each, without retries."""

    def __init__(self, url, clients=4, pause_s=0.02):
        self.url, self.pause_s = url, pause_s
        self.answers, self.failures, self.stopped = [], [], threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(client,)) for client in range(clients)]

    def run(self, client):
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        connection.connect()
        local = connection.sock.getsockname()
        row = client
        while not self.stopped.wait(self.pause_s):
            row = (row + 1) % len(PHOTOS)
            began = time.time()
            try:
                status, answer, version = ask_on(connection, PHOTOS[row])
                assert status == 200, (status, answer)
                assert connection.sock.getsockname() == local, "the connection was not kept"
            except Exception as error:
                self.failures.append(repr(error))
                continue
            self.answers.append((began, time.time(), row, answer["predictions"][0], version))
        connection.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_switches_under_steady_load_fail_no_request(tmp_path, capsys):
    settings = make_settings(tmp_path)
    offline = dict(register_version(settings, seed=seed) for seed in range(3))
    versions = list(offline)
    name(settings, versions[0])
    with serving(settings, "--probation-s=1") as (url, _):
        wait_until(lambda: get(url, "/ready")[0] == 200)
        since = [(datetime.fromisoformat(about(url)["since"]).timestamp(), versions[0])]
        with Load(url) as load:
            time.sleep(10)
            for switch in range(1, 11):
                version = versions[switch % len(versions)]
                name(settings, version)
                wait_until(lambda version=version: about(url)["version"] == version)
                since.append((datetime.fromisoformat(about(url)["since"]).timestamp(), version))
                time.sleep(2)
            time.sleep(10)
    assert load.failures == []
    ends = [began for began, _ in since[1:]] + [float("inf")]
    for began, ended, row, answer, version in load.answers:
        assert same_answer(answer, offline[version][row]), (version, row, answer)
        assert any(
            named == version and start <= ended and began <= end
            for (start, named), end in zip(since, ends, strict=True)
        ), (version, began, ended, since)
    first, last = since[1][0], since[-1][0]
    normal = [end - began for began, end, *_ in load.answers if end < since[0][0] + 10 or began > last + 4]
    moving = [end - began for began, end, *_ in load.answers if began < last and end > first - 10]
    with capsys.disabled():
        print(
            f"\n{len(load.answers)} answers, 10 switches: slowest {max(normal) * 1e3:.0f} ms without a switch, "
            f"{max(moving) * 1e3:.0f} ms with; median {sorted(normal)[len(normal) // 2] * 1e3:.1f} and "
            f"{sorted(moving)[len(moving) // 2] * 1e3:.1f} ms"
        )
    # Neighbours on the machine move both; a lock held while a version loads would show as seconds.
    assert max(moving) < max(1.0, 3 * max(normal))
