"""The end of `make server-up`: waits until every service is healthy and says where they are.

python -m bincount.server.wait
"""

from __future__ import annotations

import sys

from bincount.errors import StoreError
from bincount.server.engine import Engine
from bincount.server.secrets import ENV_FILE, read_env


def main() -> None:
    """Waits; ends with 1 and the last log lines of what did not become healthy."""
    try:
        took = Engine().wait_ready()
    except StoreError as error:
        sys.exit(str(error))
    settings = read_env(ENV_FILE.read_text())
    host = settings.get("BINCOUNT_BIND", "127.0.0.1")
    print(f"all services are healthy ({took:.0f} s)")
    for name, port, login in (
        ("Airflow", settings.get("AIRFLOW_PORT", 8080), "user admin, password AIRFLOW_ADMIN_PASSWORD in .env"),
        ("MLflow", settings.get("MLFLOW_PORT", 5000), "user admin, password MLFLOW_ADMIN_PASSWORD in .env"),
        ("Model", settings.get("MODEL_PORT", 5001), "bearer token BINCOUNT_SERVING_TOKEN in .env"),
    ):
        print(f"{name:<8} http://{host}:{port}  {login}")


if __name__ == "__main__":
    main()
