"""With Celery: partitioned ingest and extraction use both workers, and one killed in their midst changes nothing."""

import json
import logging
import time

import pytest

from tests.processes import wait_until
from tests.server.stack import QUICK, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.usefixtures("_engine")]
log = logging.getLogger(__name__)

BINS = 4000  # two shards of at most 100 MB: each of two partitions has one
ASKED = QUICK | {"limit": None, "partitions": 2, "image_px": 128}


@pytest.fixture(scope="module")
def server(tmp_path_factory, _engine):
    settings = {
        "COMPOSE_FILE": "docker-compose.yml:docker-compose.celery.yml",
        "TASK_HEARTBEAT_TIMEOUT": 60,
        "SAMPLE_BINS": BINS,
    }
    with started(tmp_path_factory.mktemp("workers"), "bincount-workers", **settings) as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(server):
    """Manifest and features of a run in which nothing was killed, and where its tasks ran."""
    run = server.trigger(**ASKED)
    manifest = manifest_of(server, run)
    wait_until(lambda: ("prepare", "-1") in hosts_of(server, run), "prepare begins", 900)
    hosts = hosts_of(server, run)
    server.airflow.fail(run)
    return manifest, features_of(server), hosts


@pytest.mark.parametrize("shared", ["fetch", "extract"])
def test_two_workers_share_a_partitioned_run(server, undisturbed, shared):
    *_, hosts = undisturbed
    log.warning("hosts: %s", hosts)
    used = {host for (task, _), host in hosts.items() if task == shared}
    workers = {one.container for one in server.engine.services() if one.name == "worker"}
    assert used == workers
    assert len(workers) == 2


def test_what_trains_has_a_worker_of_its_own(server, undisturbed):
    *_, hosts = undisturbed
    assert hosts["prepare", "-1"] == server.engine.service("worker-gpu").container


def test_a_worker_killed_while_it_fetches_changes_nothing_of_the_manifest(server, undisturbed):
    manifest, *_ = undisturbed
    # Photos and plan are named by content: without them the second run has it all to do again.
    in_workspace(server, "rm -rf [!k]*")
    run = server.trigger(**ASKED)
    wait_until(lambda: states_of(server, run, "fetch") == ["running", "running"], "both fetch", 600)
    victim = kill_worker_of(server, run, "fetch")
    began = time.monotonic()
    assert manifest_of(server, run) == manifest
    log.warning("the killed worker's share was fetched %.0f s later", time.monotonic() - began)
    assert hosts_of(server, run)["fetch", "1"] != victim
    server.airflow.fail(run)


def test_a_worker_killed_while_it_extracts_changes_nothing_of_the_features(server, undisturbed):
    manifest, features, _ = undisturbed
    server.up()
    in_workspace(server, "rm -rf features")
    run = server.trigger(**ASKED)
    assert manifest_of(server, run) == manifest
    assert states_of(server, run, "fetch") == ["skipped", "skipped"], "all shards are there"
    head = json.loads(in_workspace(server, f"head -1 manifests/{manifest}.jsonl"))
    partial = f"{head['shards'][1]['sha256'][:16]}.partial"
    wait_until(lambda: in_workspace(server, f"find . -name {partial}"), "the second share computes", 600)
    victim = kill_worker_of(server, run, "extract")
    began = time.monotonic()
    wait_until(lambda: states_of(server, run, "extract") == ["success", "success"], "both shares are there", 900)
    log.warning("the killed worker's share was computed %.0f s later", time.monotonic() - began)
    server.up()
    assert server.follow(run) == "success", server.explain(run)
    assert hosts_of(server, run)["extract", "1"] != victim
    assert features_of(server) == features


def kill_worker_of(server, run, task):
    victim = hosts_of(server, run)[task, "1"]
    server.engine.docker("kill", victim)
    return victim


def in_workspace(server, command):
    container = server.engine.service("worker-gpu").container
    return server.engine.docker("exec", container, "sh", "-c", f"cd /srv/workspace && {command}")


def features_of(server):
    return sorted(in_workspace(server, "find features -name '*.npy' -exec sha256sum {} +").splitlines())


def manifest_of(server, run):
    wait_until(lambda: states_of(server, run, "ingest") == ["success"], "the ingest is green", 1200)
    return server.airflow.result_of(run, "ingest")["manifest"]


def states_of(server, run, name):
    return [task.state for task in server.airflow.tasks(run) if task.name == name]


def hosts_of(server, run):
    """The host, which is a container's id, of each task that has begun, by name and map index."""
    query = f"SELECT task_id, map_index, hostname FROM task_instance WHERE run_id = '{run}' AND hostname != ''"  # noqa: S608
    asked = ["psql", "-U", "postgres", "airflow", "--tuples-only", "--no-align", "-c", query]
    rows = server.engine.docker("exec", server.engine.service("postgres").container, *asked)
    return {(task, index): host for task, index, host in (row.split("|") for row in rows.split())}
