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
    ("line", "value"),
    [
        ("REDIS_PASSWORD=mine  ", "mine"),
        ("REDIS_PASSWORD=mine # of the queue", "mine"),
        ("REDIS_PASSWORD=a#b", "a#b"),
        ("  REDIS_PASSWORD = mine", "mine"),
        ("REDIS_PASSWORD: mine", "mine"),
        ("export REDIS_PASSWORD=mine", "mine"),
        ('REDIS_PASSWORD="my own" # of the queue', "my own"),
        ("REDIS_PASSWORD='a # b'", "a # b"),
        ("\ufeffREDIS_PASSWORD=mine", "mine"),
    ],
)
def test_a_secret_in_any_spelling_of_compose_stays(tmp_path, line, value):
    path = tmp_path / ".env"
    path.write_text(f"{line}\nAIRFLOW_PORT=8081\n", encoding="utf-8")
    assert "REDIS_PASSWORD" not in write_secrets(path)
    assert read_env(path.read_text())["REDIS_PASSWORD"] == value
    assert read_env(path.read_text())["AIRFLOW_PORT"] == "8081"


def test_of_two_of_a_name_the_last_counts(tmp_path):
    path = tmp_path / ".env"
    for text in ("REDIS_PASSWORD=mine\nREDIS_PASSWORD=\n", 'REDIS_PASSWORD=""\n'):
        path.write_text(text)
        assert "REDIS_PASSWORD" in write_secrets(path)


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
