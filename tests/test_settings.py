from pathlib import Path

import pytest

from bincount.errors import ConfigError
from bincount.settings import Settings


def test_everything_has_a_place_without_an_environment():
    settings = Settings.from_env({})
    assert settings.workspace.name == "data"
    assert settings.tracking_uri.endswith("mlruns/mlflow.db")
    assert settings.serving_url is None
    assert settings.buckets == {}


def test_the_environment_moves_things():
    settings = Settings.from_env(
        {
            "BINCOUNT_WORKSPACE": "elsewhere",
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
            "BINCOUNT_BUCKETS": '{"sample": "http://127.0.0.1:9000", "other": "https://example.org"}',
            "BINCOUNT_MLFLOW_URL": "https://ml.example.org",
        }
    )
    assert settings.workspace == Path("elsewhere").absolute()
    assert settings.buckets == {"sample": "http://127.0.0.1:9000", "other": "https://example.org"}
    assert settings.mlflow_url == "https://ml.example.org"


@pytest.mark.parametrize("text", ["sample", '{"": "http://x"}', '{"sample": "ftp://x"}', '{"sample": 1}', "[]"])
def test_a_bucket_without_an_address_is_refused(text):
    with pytest.raises(ConfigError, match="BINCOUNT_BUCKETS: must be"):
        Settings.from_env({"BINCOUNT_BUCKETS": text})


@pytest.mark.parametrize("run_id", ["../x", "", "a/b", "a.b"])
def test_a_run_id_cannot_leave_the_workspace(run_id):
    with pytest.raises(ConfigError, match="run_id: must be letters and digits"):
        Settings.from_env({}).run(run_id)
