"""`bincount doctor --server`: checks that the stack is healthy and refuses access without a login."""

from __future__ import annotations

import ipaddress
import stat
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bincount.errors import BincountError
from bincount.local.doctor import CheckResult
from bincount.server.engine import Engine, engine_problem
from bincount.server.secrets import NAMES, read_env

_SHORTEST = 32  # characters: what `make secrets` writes has 44 and more
_AIRFLOW_PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def check_server(engine: Engine | None = None) -> list[CheckResult]:
    """Checks the secrets, the configuration as Compose reads it, and the running services.

    Args:
        engine: The stack; that of this checkout if None.
    """
    engine = engine or Engine()
    secrets = check_secrets(engine.env_file)
    problem = engine_problem()
    if problem:
        return [*secrets, CheckResult("engine", False, True, problem, "Install Docker with Compose 2, and start it.")]
    results = [*secrets, CheckResult("engine", True, True, "a Docker engine and Compose answer")]
    if not engine.env_file.exists():
        return results
    try:
        import yaml

        services = yaml.safe_load(engine.compose("config"))["services"]
        return [*results, *check_config(services), *check_running(engine, services)]
    except BincountError as error:
        return [*results, CheckResult("compose", False, True, str(error), "Correct .env or the file that it names.")]


def check_secrets(path: Path) -> list[CheckResult]:
    """True if every secret is set, long, unique, and readable by its owner only."""
    if not path.exists():
        return [CheckResult("secrets", False, True, f"no {path.name}", "Run make secrets.")]
    values = {name: value for name, value in read_env(path.read_text()).items() if name in NAMES}
    weak = [name for name in NAMES if len(values.get(name, "")) < _SHORTEST]
    equal = sorted(name for name, value in values.items() if list(values.values()).count(value) > 1)
    mode = stat.S_IMODE(path.stat().st_mode)
    do = "Run make secrets for those that are missing; replace the others with `openssl rand -hex 32`."
    return [
        CheckResult("secrets", not weak, True, f"missing or short: {', '.join(weak) or 'none'}", do if weak else ""),
        CheckResult("secrets-differ", not equal, True, f"the same: {', '.join(equal) or 'none'}", do if equal else ""),
        CheckResult(
            "secrets-private",
            not mode & 0o077,
            True,
            f"{path.name} has mode {mode:o}",
            f"chmod 600 {path.name}" if mode & 0o077 else "",
        ),
    ]


def check_config(services: Mapping[str, Any]) -> list[CheckResult]:
    """True if the configuration, as Compose reads it, leaves anything open.

    Args:
        services: The services of `docker compose config`.
    """
    env = {name: service.get("environment") or {} for name, service in services.items()}
    parts = [env[name] for name in env if name in _AIRFLOW_PARTS or name.startswith("worker")]
    jwt = {part.get("AIRFLOW__API_AUTH__JWT_SECRET") for part in parts}
    manager = {part.get("AIRFLOW__CORE__AUTH_MANAGER", "") for part in parts}
    simple = sorted(name for name in manager if not name or "Simple" in name)
    hosts = str(env["mlflow"].get("MLFLOW_SERVER_ALLOWED_HOSTS", ""))
    token = env["model-server"].get("BINCOUNT_SERVING_TOKEN")
    script = " ".join(services["mlflow"]["command"])
    limits = sorted(name for name, service in services.items() if not service.get("mem_limit"))
    open_to = sorted({address for service in services.values() for address in _open_addresses(service)})
    return [
        CheckResult(
            "loopback",
            not open_to,
            False,
            f"listens on {', '.join(open_to) or 'this machine only'}",
            "Put TLS before it (docs/server.md), or take BINCOUNT_BIND out of .env." if open_to else "",
        ),
        _rule("airflow-jwt", len(jwt) == 1 and None not in jwt, f"{len(jwt)} JWT secrets in {len(parts)} parts"),
        _rule("airflow-users", not simple, f"auth manager {', '.join(sorted(manager))}"),
        _rule("mlflow-login", "mlflow.sh" in script, f"started by {script}"),
        _rule("mlflow-hosts", bool(hosts) and "*" not in hosts.split(","), f"answers under {hosts or 'any host name'}"),
        _rule("model-token", bool(token), "requires a token" if token else "requires no token"),
        _rule("memory", not limits, f"without a limit: {', '.join(limits) or 'none'}"),
    ]


def check_running(engine: Engine, services: Mapping[str, Any]) -> list[CheckResult]:
    """True if the running services are healthy and refuse requests without a login; one result if nothing runs."""
    running = engine.services()
    if not running:
        return [CheckResult("running", False, False, "nothing", "make server-up starts it.")]
    unhealthy = [f"{each.name} ({each.state}, {each.health})" for each in running if not each.ready]
    do = "See its log: docker compose logs SERVICE." if unhealthy else ""
    results = [CheckResult("running", not unhealthy, True, f"not healthy: {', '.join(unhealthy) or 'none'}", do)]
    requests = {
        "airflow-refuses": ("api-server", 8080, "/api/v2/dags", {}, 401),
        "mlflow-refuses": ("mlflow", 5000, "/api/2.0/mlflow/registered-models/search", {}, 401),
        "mlflow-refuses-hosts": ("mlflow", 5000, "/", {"Host": "evil.example"}, 403),
        "model-refuses": ("model-server", 5001, "/invocations", {}, 401),
    }
    for check, (service, port, path, headers, expected) in requests.items():
        try:
            url = address_of(services[service], port) + path
        except LookupError as error:
            results.append(CheckResult(check, True, True, f"{service}: {error}"))
            continue
        status = _status(url, headers, b"{}" if path == "/invocations" else None)
        results.append(_rule(check, status == expected, f"{path} without a login: {status or 'no answer'}"))
    return results


def address_of(service: Mapping[str, Any], port: int) -> str:
    """The address of a service's port on this machine.

    Args:
        service: A service of `docker compose config`.
        port: The port in its container.

    Raises:
        LookupError: If the port is not published.
    """
    for entry in service.get("ports", ()):
        if entry["target"] == port:
            host = _host_of(entry)
            return f"http://{'127.0.0.1' if host in ('', '0.0.0.0', '::') else host}:{entry['published']}"  # noqa: S104
    raise LookupError(f"port {port} is not published")


def _open_addresses(service: Mapping[str, Any]) -> list[str]:
    hosts = [_host_of(entry) for entry in service.get("ports", ())]
    return [host or "all addresses" for host in hosts if not host or not ipaddress.ip_address(host).is_loopback]


def _host_of(port: Mapping[str, Any]) -> str:
    return str(port.get("host_ip") or "")


def _status(url: str, headers: Mapping[str, str], body: bytes | None) -> int | None:
    try:
        with _opener.open(urllib.request.Request(url, body, dict(headers)), timeout=10) as answer:  # noqa: S310
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def _rule(check: str, ok: bool, found: str) -> CheckResult:
    return CheckResult(
        check, ok, True, found, "" if ok else "Restore the setting of docker-compose.yml; see docs/server.md."
    )
