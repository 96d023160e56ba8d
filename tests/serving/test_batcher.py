"""Requests that come together are counted together, each gets its own answers."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest

from bincount.errors import DataError, RowError, StoreError
from bincount.serving.batcher import Batcher


class Recorder:
    """A predictor that answers a photo's first byte, and takes as long as it is told for each batch shape."""

    def __init__(self, seconds):
        self.seconds, self.batches = seconds, []

    def predict(self, photos):
        time.sleep(next(cost for size, cost in self.seconds.items() if size >= len(photos)))
        self.batches.append(len(photos))
        for row, photo in enumerate(photos):
            if photo == b"bad":
                raise RowError(row, "image: must be whole")
        return np.array([[photo[0]] for photo in photos], np.float32)


def make(seconds, timeout_s=10.0):
    recorder = Recorder(seconds)
    batcher = Batcher(recorder.predict, tuple(seconds), b"example", timeout_s=timeout_s)
    recorder.batches.clear()
    return recorder, batcher


def together(batcher, requests):
    """What each request got, all asked at the same time."""
    got = [None] * len(requests)
    start = threading.Barrier(len(requests))

    def ask(place, photos):
        start.wait()
        try:
            got[place] = batcher.predict(photos)[:, 0].tolist()
        except (DataError, StoreError) as error:
            got[place] = error

    threads = [threading.Thread(target=ask, args=each) for each in enumerate(requests)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def test_gathers_where_a_full_batch_costs_no_more():
    recorder, batcher = make({1: 0.02, 8: 0.02})
    got = together(batcher, [[bytes([n])] for n in range(16)])
    assert got == [[n] for n in range(16)]
    assert len(recorder.batches) <= 4
    assert sum(recorder.batches) == sum(size * times for size, times in batcher.sizes.items()) == 16


def test_does_not_fill_up_where_filling_costs():
    recorder, batcher = make({1: 0.01, 8: 0.08})
    together(batcher, [[bytes([n])] for n in range(5)])
    assert recorder.batches == [1] * 5


def test_a_large_request_does_not_keep_a_small_one_waiting():
    _, batcher = make({1: 0.02, 4: 0.02})
    done = {}

    def ask(name, photos):
        batcher.predict(photos)
        done[name] = time.monotonic()

    large = threading.Thread(target=ask, args=("large", [b"x"] * 80))
    large.start()
    time.sleep(0.05)
    ask("small", [b"y"])
    assert "large" not in done
    large.join()


def test_a_bad_photo_fails_its_own_request_and_names_its_row():
    _, batcher = make({1: 0.02, 8: 0.02})
    got = together(batcher, [[b"a"], [b"b", b"c", b"bad"], [b"d"] * 3])
    assert got[0] == [97]
    assert got[2] == [100] * 3
    assert str(got[1]) == "row 2: image: must be whole"
    assert batcher.predict([b"e"])[0, 0] == 101


def test_photos_nobody_waits_for_any_more_are_not_counted():
    recorder, batcher = make({1: 0.2}, timeout_s=0.1)
    got = together(batcher, [[b"a"]] * 4)
    assert sum(isinstance(each, StoreError) for each in got) >= 2
    assert len(recorder.batches) <= 2


def test_an_unexpected_error_reaches_all_who_wait_and_does_not_end_the_batcher():
    def predict(photos):
        if photos == [b"boom"]:
            raise RuntimeError("boom")
        return np.zeros((len(photos), 1), np.float32)

    batcher = Batcher(predict, (1,), b"example", timeout_s=10)
    with pytest.raises(RuntimeError, match="boom"):
        batcher.predict([b"boom"])
    assert batcher.predict([b"x"]).shape == (1, 1)


def test_an_idle_batcher_can_be_freed():
    recorder, batcher = make({1: 0.0})
    batcher.predict([b"a"])
    gone = weakref.ref(batcher)
    del batcher, recorder
    time.sleep(1.2)
    gc.collect()
    assert gone() is None
