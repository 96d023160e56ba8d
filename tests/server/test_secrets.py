"""The secrets: random, private, never overwritten; and what `bincount doctor --server` says of bad ones."""

import stat

import pytest

from bincount.server.doctor import check_secrets
from bincount.server.secrets import NAMES, read_env, write_secrets


def test_secrets_are_long_all_different_and_private(tmp_path):
    path = tmp_path / ".env"
    assert write_secrets(path) == list(NAMES)
    values = read_env(path.read_text())
    assert set(values) == set(NAMES)
    assert len(set(values.values())) == len(NAMES)
    assert min(map(len, values.values())) >= 44
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert all(result.ok for result in check_secrets(path))


def test_what_is_there_stays(tmp_path):
    path = tmp_path / ".env"
    path.write_text("AIRFLOW_PORT=8081\nREDIS_PASSWORD=mine\nAIRFLOW_JWT_SECRET=\n")
    added = write_secrets(path)
    assert "REDIS_PASSWORD" not in added
    assert "AIRFLOW_JWT_SECRET" in added  # it was empty
    values = read_env(path.read_text())
    assert values["REDIS_PASSWORD"] == "mine"
    assert values["AIRFLOW_PORT"] == "8081"
    before = path.read_text()
    assert write_secrets(path) == []
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (lambda path: path.chmod(0o644), "secrets-private"),
        (lambda path: path.write_text(path.read_text().replace(read_of(path, "AIRFLOW_JWT_SECRET"), "s")), "secrets"),
        (
            lambda path: path.write_text(
                path.read_text().replace(read_of(path, "AIRFLOW_JWT_SECRET"), read_of(path, "MLFLOW_ADMIN_PASSWORD"))
            ),
            "secrets-differ",
        ),
    ],
)
def test_the_doctor_sees_bad_secrets(tmp_path, spoil, check):
    path = tmp_path / ".env"
    write_secrets(path)
    spoil(path)
    wrong = [result for result in check_secrets(path) if not result.ok]
    assert [result.check for result in wrong] == [check]
    assert all(result.do for result in wrong)


def test_the_doctor_sees_that_there_are_none(tmp_path):
    (result,) = check_secrets(tmp_path / ".env")
    assert not result.ok
    assert "make secrets" in result.do


def read_of(path, name):
    return read_env(path.read_text())[name]
