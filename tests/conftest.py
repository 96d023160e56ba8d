"""For all tests: an environment of their own, Ctrl-C for the processes that they start, the longest test first."""

import os
import signal

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so, and every process below would be deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    # Where several processes share the tests, none then waits for it at the end.
    items.sort(key=lambda item: item.path.name != "test_end_to_end.py")


_OURS = ("AWS_", "BINCOUNT_", "MLFLOW_")


@pytest.fixture(autouse=True)
def _environment_restored():
    """Undoes what a command that runs in the test's own process sets, such as `bincount serve` its timeouts."""
    before = {name: value for name, value in os.environ.items() if name.startswith(_OURS)}
    yield
    for name in [name for name in os.environ if name.startswith(_OURS) and name not in before]:
        del os.environ[name]
    os.environ.update(before)
