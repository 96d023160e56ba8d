"""S3 is gone for a minute while a step is at it: the step waits, and ends as if nothing had been."""

import dataclasses
import threading
import time

import pytest

from bincount.dataset.ingest import collect
from bincount.evaluate.evaluate import evaluate
from bincount.reconcile.reconcile import reconcile
from tests.bucket_server import run_server
from tests.reconcile.reconciled import registered
from tests.stores import make_settings

BINS, DOWN_S = 1500, 60
# What each step is doing when the bucket goes: what it has asked for, and how often by then.
MOMENTS = [(step, kind) for step in ("ingest", "evaluate", "reconcile") for kind in ("GET metadata", "GET bin-images")]


class Outage(threading.Thread):
    """One step on a bucket of its own, which goes once the step is in the middle of reading."""

    def __init__(self, number, settings, model, place):
        super().__init__()
        self.step, self.kind = MOMENTS[number]
        self.settings, self.model, self.out = settings, model, place / f"out{number}"
        self.bucket, self.error, self.answer, self.was_down = f"bins{number}", None, None, False

    def run(self):
        try:
            with run_server(bins=BINS, photo_bytes=1500, counts="1-5", latency_ms=150) as server:
                self.settings = dataclasses.replace(
                    self.settings, workspace=self.out, buckets={self.bucket: server.endpoint}
                )
                work = threading.Thread(target=self._work)
                work.start()
                while work.is_alive() and server.stats().get(self.kind, 0) < BINS // 4:
                    time.sleep(0.02)
                server.set(down=1)
                time.sleep(DOWN_S)
                self.was_down = work.is_alive() and server.stats().get("resets", 0) > 0
                server.set(down=0, latency_ms=0)
                work.join()
        except Exception as error:
            self.error = error

    def _work(self):
        source = f"s3://{self.bucket}"
        try:
            if self.step == "ingest":
                self.answer = collect(self.settings, source=source, workers=64)
            elif self.step == "evaluate":
                self.answer = evaluate(self.settings, model=self.model, source=source)
            else:
                self.answer = reconcile(self.settings, source=source, model=self.model, out=str(self.out / "list"))
        except Exception as error:
            self.error = error


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_minute_without_s3_in_every_step_that_reads_from_it(tmp_path):
    settings = make_settings(tmp_path)
    model = registered(settings)
    outages = [Outage(number, settings, model, tmp_path) for number in range(len(MOMENTS))]
    for each in outages:
        each.start()
    for each in outages:
        each.join()
    for each in outages:
        where = (each.step, each.kind)
        assert each.error is None, where
        assert each.was_down, f"{where}: it was over before the bucket went"
        counted = each.answer["bins"] + sum(each.answer.get("set_aside", {}).values()) + each.answer.get("siblings", 0)
        assert counted == BINS, where
