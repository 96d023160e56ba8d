"""What holds for all tests: Ctrl-C reaches the processes that they start, and the longest test comes first."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so, and every process below would be deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    # Where several processes share the tests, none then waits for it at the end.
    items.sort(key=lambda item: item.path.name != "test_end_to_end.py")
