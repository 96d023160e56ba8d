"""The S3 server of the tests of the store."""

from tests.store.conftest import credentials, moto_endpoint, new_bucket  # noqa: F401
