"""The longest test first: where several processes share the tests, none then waits for it at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name != "test_end_to_end.py")
