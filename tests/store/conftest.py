"""What the tests of the store share."""

import pytest

from tests.s3_servers import credentials, moto_endpoint, new_bucket  # noqa: F401


@pytest.fixture
def no_credentials(monkeypatch, tmp_path):
    """No credentials anywhere, as on a fresh machine."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
