"""The supervisor ends all that it started, in whatever way it ends itself."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bincount.errors import ConfigError, StoreError
from bincount.local.stack import Ports, Stack, check_ports
from bincount.local.supervisor import Component, Supervisor
from tests.processes import is_running, wait_until

ROOT = Path(__file__).parents[2]

# Like Airflow's scheduler: it shrugs off SIGTERM, and its worker leaves the process group.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
worker = os.fork()
if worker == 0:
    os.setpgid(0, 0)
    time.sleep(600)
pids = sys.argv[1]
open(pids + ".tmp", "w").write(f"{os.getpid()} {worker}")
os.rename(pids + ".tmp", pids)
time.sleep(600)
"""


def stubborn(tmp_path: Path, name: str = "stubborn") -> Component:
    return Component(name, [sys.executable, "-c", STUBBORN, str(tmp_path / name)])


def pids_of(tmp_path: Path, name: str = "stubborn") -> list[int]:
    path = tmp_path / name
    wait_until(path.exists, f"{name} starts")
    return [int(pid) for pid in path.read_text().split()]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("bincount.local.supervisor.STOP_TIMEOUT_S", 0.5)


@pytest.mark.usefixtures("quick")
def test_leaving_the_context_ends_every_process(tmp_path):
    with Supervisor(tmp_path / "home") as supervisor:
        supervisor.start(stubborn(tmp_path, "one"))
        supervisor.start(stubborn(tmp_path, "two"))
        pids = pids_of(tmp_path, "one") + pids_of(tmp_path, "two")
        supervisor.check()
        assert all(map(is_running, pids))
    assert not any(map(is_running, pids))


@pytest.mark.usefixtures("quick")
def test_one_part_can_be_ended_and_started_again(tmp_path):
    with Supervisor(tmp_path / "home") as supervisor:
        supervisor.start(stubborn(tmp_path, "server"))
        before = pids_of(tmp_path, "server")
        supervisor.stop("server")
        assert not any(map(is_running, before))
        (tmp_path / "server").unlink()
        supervisor.start(stubborn(tmp_path, "server"))
        assert all(map(is_running, pids_of(tmp_path, "server")))
        supervisor.check()


@pytest.mark.usefixtures("quick")
def test_a_part_that_ends_is_an_error_with_the_end_of_its_log(tmp_path):
    with Supervisor(tmp_path / "home") as supervisor:
        supervisor.start(Component("brief", [sys.executable, "-c", "print('out of paper'); raise SystemExit(7)"]))

        wait_until(lambda: supervisor.log_path("brief").read_text() == "out of paper\n", "it says so")
        time.sleep(0.2)
        with pytest.raises(StoreError, match=r"(?s)brief: must keep running, got exit code 7\..*out of paper"):
            supervisor.check()
        with pytest.raises(StoreError, match=r"brief: must succeed, got exit code 7\."):
            supervisor.run(Component("brief", [sys.executable, "-c", "raise SystemExit(7)"]))


SUPERVISOR = """
import sys, time
from pathlib import Path
from bincount.local.supervisor import Component, Supervisor
home = Path(sys.argv[1])
with Supervisor(home) as supervisor:
    supervisor.start(Component("stubborn", [sys.executable, "-c", sys.argv[2], str(home.parent / "stubborn")]))
    time.sleep(600)
"""


def start_supervisor(tmp_path: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path / "home"), STUBBORN]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_components_end_when_the_supervisor_is_killed(tmp_path):
    supervisor = start_supervisor(tmp_path)
    try:
        pids = pids_of(tmp_path)
        assert all(map(is_running, pids))
    finally:
        supervisor.kill()
        supervisor.wait()
    wait_until(lambda: not any(map(is_running, pids)), "the components end", timeout_s=3)
    with Supervisor(tmp_path / "home"):
        pass  # and the next one starts as if nothing had happened


def test_leftovers_are_ended_when_the_guards_were_killed_too(tmp_path):
    supervisor = start_supervisor(tmp_path)
    pids = pids_of(tmp_path)
    guards = [pid for pid in session_of(pids[0]) if pid not in pids]
    assert guards, "each part has a guard"
    for pid in guards:
        os.kill(pid, signal.SIGKILL)
    supervisor.kill()
    supervisor.wait()
    time.sleep(0.2)
    assert all(map(is_running, pids)), "nobody was left to end the components"
    with Supervisor(tmp_path / "home"):
        assert not any(map(is_running, pids))


def session_of(pid: int) -> list[int]:
    from bincount.process.session_guard import session_members

    return session_members(os.getsid(pid))


@pytest.mark.parametrize("change", [{"boot": "another"}, {"started": 1}])
def test_a_process_that_reuses_a_listed_id_is_not_killed(tmp_path, change):
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    home = tmp_path / "home"
    home.mkdir()
    started = int(Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()[19])
    listed = {
        "boot": change.get("boot", Path("/proc/sys/kernel/random/boot_id").read_text()),
        "sessions": [{"pid": stranger.pid, "started": change.get("started", started)}],
    }
    (home / "running.json").write_text(json.dumps(listed))
    try:
        with Supervisor(home):
            assert is_running(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_second_supervisor_is_refused(tmp_path):
    with (
        Supervisor(tmp_path / "home"),
        pytest.raises(ConfigError, match=rf"only one `bincount up` may run at a time, got process {os.getpid()}\."),
    ):
        Supervisor(tmp_path / "home").__enter__()
    with Supervisor(tmp_path / "home"):
        pass


def test_a_taken_port_is_named_with_its_flag():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--mlflow-port: must be a free port of 127\.0\.0\.1, got {port}"):
            check_ports({"--mlflow-port": port})
    check_ports({"--mlflow-port": port})


@pytest.mark.parametrize(
    ("flags", "message"),
    [({"--a": 0}, "--a: must be a port from 1 to 65535, got 0"), ({"--a": 7, "--b": 7}, "--a and --b: must differ")],
)
def test_impossible_ports_are_refused(flags, message):
    with pytest.raises(ConfigError, match=message):
        check_ports(flags)


def test_secrets_are_private_kept_and_different_elsewhere(tmp_path):
    def env(home: Path) -> dict[str, str]:
        home.mkdir(exist_ok=True)
        return Stack(Ports(), home=home).airflow_env({"bins": "http://127.0.0.1:9000"})

    first, again, other = env(tmp_path / "a"), env(tmp_path / "a"), env(tmp_path / "b")
    for name in ("AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API__SECRET_KEY"):
        assert first[name] == again[name] != other[name]
        assert len(first[name]) >= 44
    assert (tmp_path / "a" / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert first["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert first["BINCOUNT_BUCKETS"] == '{"bins": "http://127.0.0.1:9000"}'
