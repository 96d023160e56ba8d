"""`make backup` and `make restore`: every database, MLflow's artifacts, the workspace and the secrets, as one folder.

python -m bincount.server.backup [FOLDER]        writes a new folder below backups/, or the one named
python -m bincount.server.backup --restore FOLDER    onto a machine whose stack holds nothing yet
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

from bincount.errors import BincountError, ConfigError, DataError
from bincount.server.engine import Engine
from bincount.server.secrets import CHECKOUT, read_env

DATABASES = {"airflow": "airflow", "mlflow": "mlflow", "mlflow_auth": "mlflow"}
"""Each database and the user it belongs to."""

FOLDERS = {"artifacts": ("mlflow", "/srv/artifacts"), "workspace": ("scheduler", "/srv/workspace")}
"""Each volume, and the service and the place where it is mounted."""

_CONTENTS = "contents.json"


def back_up(engine: Engine, folder: Path) -> dict[str, int]:
    """Writes a backup of a running stack; nothing is stopped.

    The databases come first: what they name of artifacts and workspace was
    there before they named it, and neither is ever changed. What is written
    meanwhile is in the next backup.

    Args:
        engine: The stack.
        folder: A folder that is absent; holds secrets, so its owner alone can read it.

    Returns:
        Bytes by file.

    Raises:
        ConfigError: If the folder exists.
        StoreError: If the stack does not answer.
    """
    if folder.exists():
        raise ConfigError(f"backup: must be a new folder, got {str(folder)!r}. Name another.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=0o700)
    postgres = engine.service("postgres").container
    for name in DATABASES:
        with (beside / f"{name}.dump").open("wb") as file:
            engine.docker("exec", postgres, "pg_dump", "--username=postgres", "--format=custom", name, stdout=file)
    for name, (service, place) in FOLDERS.items():
        with (beside / f"{name}.tar").open("wb") as file:
            engine.docker("cp", f"{engine.service(service).container}:{place}", "-", stdout=file)
    secrets = beside / "env"
    secrets.touch(mode=0o600)
    secrets.write_bytes(engine.env_file.read_bytes())
    contents = {path.name: _digest_of(path) for path in sorted(beside.iterdir())}
    (beside / _CONTENTS).write_text(json.dumps(contents, indent=2))
    beside.rename(folder)
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def restore(engine: Engine, folder: Path) -> None:
    """Fills the empty volumes of a stack that does not run from a backup; `make server-up` then starts it.

    Raises:
        ConfigError: If something is there already: containers, other secrets.
        DataError: If a file of the backup is missing or is not as it was written.
        StoreError: If the engine or a database refuses.
    """
    _check(folder)
    wrote = _restore_secrets(engine, folder / "env")  # first, since Compose reads nothing without them
    if engine.services():
        if wrote:
            engine.env_file.unlink()
        raise ConfigError(
            "restore: must find no stack here, got containers. "
            "To replace what is here, back it up, then remove it with its volumes: docker compose down --volumes."
        )
    engine.compose("up", "-d", "postgres")
    engine.wait_ready(["postgres"])
    postgres = engine.service("postgres").container
    for name, owner in DATABASES.items():
        _restore_database(engine, postgres, folder / f"{name}.dump", name, owner)
    for name, (service, place) in FOLDERS.items():
        _restore_volume(engine, folder / f"{name}.tar", service, place)


def _restore_volume(engine: Engine, archive: Path, service: str, place: str) -> None:
    """Into the volume of a container that only waits: Compose 1.29 makes none whose dependencies have not ended."""
    waiting = f"bincount-restore-{os.getpid()}"
    engine.compose("run", "--detach", "--no-deps", "--name", waiting, service, "sleep", "infinity")
    try:
        with archive.open("rb") as file:
            into = ["tar", "--extract", "--file=-", f"--directory={Path(place).parent}", "--no-overwrite-dir"]
            engine.docker("exec", "--interactive", waiting, *into, stdin=file)
    finally:
        engine.docker("rm", "--force", waiting)


def _restore_database(engine: Engine, postgres: str, dump: Path, name: str, owner: str) -> None:
    count = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    asked = ["exec", postgres, "psql", "--username=postgres", f"--dbname={name}", "--tuples-only", f"--command={count}"]
    tables = int(engine.docker(*asked))
    if tables:
        raise ConfigError(
            f"restore: the database {name} must be empty, got {tables} tables. "
            "Back up what is here, then remove it: docker compose down --volumes."
        )
    flags = ["--username=postgres", f"--dbname={name}", "--no-owner", f"--role={owner}", "--no-privileges"]
    with dump.open("rb") as file:
        flags += ["--single-transaction", "--exit-on-error"]
        engine.docker("exec", "--interactive", postgres, "pg_restore", *flags, stdin=file)


def _restore_secrets(engine: Engine, backed_up: Path) -> bool:
    """Whether they were absent and are now there."""
    here = engine.env_file
    if here.exists() and read_env(here.read_text()) != read_env(backed_up.read_text()):
        raise ConfigError(
            f"restore: {here.name} must be absent or that of the backup, got another. Its databases know the backup's "
            f"secrets only: move {here.name} away."
        )
    absent = not here.exists()
    if absent:
        here.touch(mode=0o600)
        here.write_bytes(backed_up.read_bytes())
    return absent


def _check(folder: Path) -> None:
    try:
        contents = json.loads((folder / _CONTENTS).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: must be a backup with its {_CONTENTS}, got {error}. Name a whole one.") from error
    needed = {*(f"{name}.dump" for name in DATABASES), *(f"{name}.tar" for name in FOLDERS), "env"}
    for name in sorted(needed | set(contents)):
        path = folder / name
        if not path.is_file() or _digest_of(path) != contents.get(name):
            raise DataError(f"{path}: must be as it was written, got another or none. Take another backup.")


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Backs up or restores the checkout's stack."""
    parser = argparse.ArgumentParser(prog="python -m bincount.server.backup", description=main.__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="a new folder (default: backups/<time>)")
    parser.add_argument("--restore", action="store_true", help="restore from that folder instead")
    args = parser.parse_args()
    try:
        if args.restore:
            if args.folder is None:
                raise ConfigError("restore: must name a backup, got none. Say make restore FROM=backups/...")
            restore(Engine(), args.folder)
            print("restored; make server-up starts it")
            return
        folder = args.folder or CHECKOUT / "backups" / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H%M%SZ}"
        sizes = back_up(Engine(), folder)
        print(
            f"{folder}: {sum(sizes.values()) / 1e6:.1f} MB in {len(sizes)} files. It holds the secrets: keep it safe."
        )
    except BincountError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
