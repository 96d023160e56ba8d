"""For all tests: an environment of their own, Ctrl-C for the processes that they start, the longest test first."""

import linecache
import os
import signal

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so, and every process below would be deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class _Linecache:
    """Forgets source that SQLAlchemy 2.1 has generated, before each test and doctest.

    It would delete it whenever garbage is collected, also while a doctest goes through all of it: a KeyError then.
    """

    def pytest_runtest_setup(self):
        for name in [name for name in list(linecache.cache) if name.startswith("<sqlalchemy generated")]:
            linecache.cache.pop(name, None)


def pytest_configure(config):
    config.pluginmanager.register(_Linecache())  # for doctests too, which are outside this folder


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
