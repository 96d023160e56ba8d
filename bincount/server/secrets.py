"""`make secrets`: writes random secrets to .env, which Compose reads; needs the standard library only.

python -m bincount.server.secrets [FILE]
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ENV_FILE = CHECKOUT / ".env"

FERNET = "AIRFLOW_FERNET_KEY"
NAMES = {
    "POSTGRES_PASSWORD": "PostgreSQL's superuser",
    "AIRFLOW_DB_PASSWORD": "Airflow's user of PostgreSQL",
    "MLFLOW_DB_PASSWORD": "MLflow's user of PostgreSQL",
    "AIRFLOW_ADMIN_PASSWORD": "Airflow's UI, user admin",
    FERNET: "key with which Airflow encrypts connections",
    "AIRFLOW_API_SECRET_KEY": "key with which Airflow signs requests for logs",
    "AIRFLOW_JWT_SECRET": "key with which Airflow's API server signs tokens of users and tasks",
    "MLFLOW_ADMIN_PASSWORD": "MLflow's UI and API, user admin",
    "MLFLOW_FLASK_SECRET_KEY": "key with which MLflow signs its forms",
    "BINCOUNT_SERVING_TOKEN": "token that clients of the model server send",
    "REDIS_PASSWORD": "the queue of docker-compose.celery.yml",
    "OBJECTS_KEY": "key of the S3 server of docker-compose.object-storage.yml",
    "OBJECTS_SECRET": "its secret",
    "GRAFANA_ADMIN_PASSWORD": "Grafana's UI, user admin, of docker-compose.monitoring.yml",
}
"""Each secret and what it protects."""

_LINE = re.compile(
    r"^\ufeff?[ \t]*(?:export[ \t]+)?([A-Z][A-Z0-9_]*)[ \t]*[=:][ \t]*"
    r"""(?:"([^"\n]*)"|'([^'\n]*)'|(.*?)(?:[ \t]+#.*)?[ \t]*$)""",
    re.M,
)


def write_secrets(path: Path) -> list[str]:
    """Adds the secrets that a file lacks; its other lines stay as they are.

    Args:
        path: The file; its mode becomes 0600.

    Returns:
        The names of those added.
    """
    old = path.read_text() if path.exists() else ""
    missing = [name for name in NAMES if name not in read_env(old)]
    if missing:
        new = "".join(f"# {NAMES[name]}\n{name}={_random(name)}\n" for name in missing)
        beside = path.with_name(f"{path.name}.new")
        beside.unlink(missing_ok=True)
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{old.rstrip()}\n\n{new}" if old.strip() else new)
        beside.replace(path)
    path.chmod(0o600)
    return missing


def read_env(text: str) -> dict[str, str]:
    """The values of an .env file that are not empty, by name, as Compose reads them; of two of a name the last.

    Example:
        >>> read_env("# a comment\\nA=1\\nB=\\nexport C = 'x y'  # another")
        {'A': '1', 'C': 'x y'}
    """
    found = {name: "".join(values) for name, *values in _LINE.findall(text)}
    return {name: value for name, value in found.items() if value}


def _random(name: str) -> str:
    # Letters and digits only, since they are used in URLs and shell commands.
    return base64.urlsafe_b64encode(os.urandom(32)).decode() if name == FERNET else secrets.token_hex(32)


def main() -> None:
    """Writes the file and prints how many secrets were added."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ENV_FILE
    added = write_secrets(path)
    print(f"{path.name}: {f'wrote {len(added)} secrets' if added else 'has all secrets, nothing changed'}")


if __name__ == "__main__":
    main()
