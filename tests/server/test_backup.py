"""What backup and restore refuse before they ask an engine; the drill itself is in test_stack.py."""

import hashlib
import json

import pytest

from bincount.errors import ConfigError, DataError
from bincount.server.backup import DATABASES, FOLDERS, back_up, restore
from bincount.server.engine import Engine

FILES = [*(f"{name}.dump" for name in DATABASES), *(f"{name}.tar" for name in FOLDERS), "env"]


@pytest.fixture
def backup(tmp_path):
    folder = tmp_path / "backup"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(f"AIRFLOW_PORT={len(name)}")
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    (folder / "contents.json").write_text(json.dumps(digests))
    return folder


def test_a_backup_never_replaces_another(tmp_path):
    with pytest.raises(ConfigError, match="must be a new folder"):
        back_up(Engine(tmp_path / "env"), tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_not_restored(tmp_path, backup, name):
    (backup / name).write_text("changed")
    with pytest.raises(DataError, match=f"{name}: must be as it was written"):
        restore(Engine(tmp_path / "env"), backup)
    assert not (tmp_path / "env").exists()


@pytest.mark.parametrize("name", [*FILES, "contents.json"])
def test_half_a_backup_is_not_restored(tmp_path, backup, name):
    (backup / name).unlink()
    with pytest.raises(DataError):
        restore(Engine(tmp_path / "env"), backup)


def test_other_secrets_are_not_replaced(tmp_path, backup):
    (tmp_path / "env").write_text("AIRFLOW_PORT=8080")
    with pytest.raises(ConfigError, match="must be absent or that of the backup"):
        restore(Engine(tmp_path / "env"), backup)
    assert (tmp_path / "env").read_text() == "AIRFLOW_PORT=8080"
