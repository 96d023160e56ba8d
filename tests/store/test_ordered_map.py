import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bincount.store.s3 import ordered_map


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(), max_size=60), st.integers(1, 20))
def test_results_come_in_the_order_of_the_items(items, workers):
    def double(item):
        time.sleep(random.random() / 2000)
        return 2 * item

    found = ordered_map(double, items, workers=workers, stopped=threading.Event())
    assert list(found) == [2 * item for item in items]


def test_no_more_calls_are_made_at_a_time_than_workers_and_few_are_ahead_of_a_slow_reader():
    under_way, most, made, lock = 0, 0, 0, threading.Lock()

    def call(item):
        nonlocal under_way, most, made
        with lock:
            under_way, made = under_way + 1, made + 1
            most = max(most, under_way)
        time.sleep(0.001)
        with lock:
            under_way -= 1
        return item

    results = ordered_map(call, range(10_000), workers=6, stopped=threading.Event())
    assert [next(results) for _ in range(500)] == list(range(500))
    time.sleep(0.1)
    assert made <= 500 + 2 * 2 * 6
    results.close()
    assert most <= 6


def test_slow_answers_are_waited_for_together():
    started_s = time.monotonic()
    found = ordered_map(lambda item: time.sleep(0.02) or item, range(600), workers=64, stopped=threading.Event())
    assert list(found) == list(range(600))
    assert time.monotonic() - started_s < 600 * 0.02 / 8


def test_an_error_reaches_the_reader_and_ends_the_rest():
    stopped = threading.Event()

    def call(item):
        if item == 5:
            raise ValueError("five")
        return item

    with pytest.raises(ValueError, match="five"):
        list(ordered_map(call, range(100), workers=4, stopped=stopped))
    assert stopped.is_set()
