"""The pod of a task on Kubernetes, as far as that shows without a cluster: it fits the image and holds no secret."""

import re
from pathlib import Path

import pytest
import yaml

from bincount.server.secrets import NAMES
from bincount.settings import Settings

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "server" / "pod-template.yaml"
UNITS = {"Gi": 2**30, "Mi": 2**20}


def bytes_of(quantity):
    number, unit = re.fullmatch(r"(\d+)(\w+)", quantity).groups()
    return int(number) * UNITS[unit]


@pytest.fixture
def spec():
    document = yaml.safe_load(TEMPLATE.read_text())
    assert (document["apiVersion"], document["kind"]) == ("v1", "Pod")
    assert document["metadata"]["name"], "Airflow refuses a template without"
    return document["spec"]


@pytest.fixture
def base(spec):
    (base,) = spec["containers"]
    assert base["name"] == "base", "the name that Airflow looks for"
    return base


def test_the_pod_runs_once_and_as_the_user_of_the_image(spec, base):
    assert spec["restartPolicy"] == "Never"
    dockerfile = (ROOT / "Dockerfile").read_text()
    user = re.search(r"useradd --uid (\d+) --gid (\d+)", dockerfile).groups()
    security = spec["securityContext"]
    assert (str(security["runAsUser"]), str(security["runAsGroup"]), str(security["fsGroup"])) == (*user, user[1])
    assert security["runAsNonRoot"]
    assert base["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert "ENTRYPOINT" not in dockerfile, "Airflow's arguments are the whole command"


def test_cache_and_weights_are_on_a_disk_that_goes_with_the_pod(spec, base):
    env = {each["name"]: each["value"] for each in base["env"]}
    (volume,) = spec["volumes"]
    (mount,) = base["volumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": env["BINCOUNT_CACHE"]}
    assert env["KERAS_HOME"].startswith(f"{env['BINCOUNT_CACHE']}/")
    settings = Settings.from_env(env | {"BINCOUNT_WORKSPACE": "s3://bucket/prefix"})
    limit = bytes_of(volume["emptyDir"]["sizeLimit"])
    assert settings.cache_gb * 1e9 < 0.8 * limit, "room for a step that needs more than the bound"
    assert limit < bytes_of(base["resources"]["limits"]["ephemeral-storage"])


def test_no_secret_is_in_the_template(base):
    text = TEMPLATE.read_text()
    named = ("PASSWORD", "TOKEN", "SECRET_", "ACCESS_KEY", *NAMES)
    assert [name for name in named if name in text] == []
    assert {"secretRef": {"name": "bincount-task"}} in base["envFrom"]
