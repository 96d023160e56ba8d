"""A password in an address is told to nobody. What a whole run leaves behind: tests/test_end_to_end.py."""

import json
import os
import subprocess
import sys

import pytest

from bincount.client import Client
from bincount.dataset.ingest import collect
from bincount.errors import BincountError, ConfigError
from bincount.settings import Settings, without_passwords
from bincount.store import s3
from bincount.tracking import model_registry
from tests.processes import free_ports

SECRET = "pl4nted-S3cret"


@pytest.fixture
def nobody():
    """An address with a password, where nothing listens."""
    return f"http://ada:{SECRET}@127.0.0.1:{free_ports(1)[0]}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"http://ada:{SECRET}@host:1/x", "http://host:1/x"),
        (f"postgresql+psycopg2://ada:{SECRET}@db/mlflow", "postgresql+psycopg2://db/mlflow"),
        (f"https://{SECRET}@host and s3://bins/a@b", "https://host and s3://bins/a@b"),
        (f"got 'http://ada:{SECRET}@host', http://b:{SECRET}@c", "got 'http://host', http://c"),
        (f"http://ada:{SECRET}@{SECRET}@host/", "http://host/"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
    ],
)
def test_addresses_are_shown_without_passwords(text, shown):
    assert without_passwords(text) == shown


def test_no_message_names_it(nobody, tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    monkeypatch.setattr(s3, "UNANSWERED_S", 0.1)
    settings = Settings(tmp_path, nobody, tmp_path, buckets={"bins": nobody}, serving_url=nobody, serving_token=SECRET)
    told = [repr(settings)]
    with Client(nobody, token=SECRET, retries=0, timeout_s=1) as client:
        for call in (
            lambda: model_registry.alias(settings, "champion"),
            lambda: collect(settings, source="s3://bins"),
            lambda: client.count([b"x"]),
            lambda: Client(nobody.replace("http", "ftp")),
            lambda: model_registry.alias(Settings(tmp_path, nobody.replace("http", "ftp"), tmp_path), "champion"),
            lambda: Settings.from_env({"BINCOUNT_BUCKETS": json.dumps({"bins": nobody.replace("http", "ftp")})}),
        ):
            with pytest.raises(BincountError) as caught:
                call()
            told.append(str(caught.value))
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("bincount")]
    assert not [each for each in told + ours if SECRET in each]
    assert all("must be" in each or "must answer" in each or "must list" in each for each in told[1:]), told


def test_the_command_and_a_tasks_link_do_not_name_it(nobody, tmp_path):
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": nobody,
        "BINCOUNT_WORKSPACE": str(tmp_path),
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "BINCOUNT_SERVING_TOKEN": SECRET,
    }
    done = subprocess.run(
        [sys.executable, "-m", "bincount", "history"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert SECRET not in done.stdout + done.stderr
    assert "must answer" in done.stderr


def test_a_wrong_setting_is_quoted_without_it():
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({"BINCOUNT_BUCKETS": json.dumps({"bins": f"ada:{SECRET}@host"})})
    assert SECRET not in str(caught.value)
    assert json.dumps(str(caught.value))
