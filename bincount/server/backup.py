"""`make backup` and `make restore`: every database, MLflow's artifacts, the workspace and the secrets, as one folder.

python -m bincount.server.backup [FOLDER]        writes a new folder below backups/, or the one named
python -m bincount.server.backup --restore FOLDER    onto a machine whose stack holds nothing yet
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import sys
from pathlib import Path

from bincount.errors import BincountError, ConfigError, DataError
from bincount.files import sha256_of_file
from bincount.server.engine import Engine
from bincount.server.secrets import CHECKOUT, read_env

DATABASES = {"airflow": "airflow", "mlflow": "mlflow", "mlflow_auth": "mlflow"}
"""Each database and its owner."""

FOLDERS = {"artifacts": ("mlflow", "/srv/artifacts"), "workspace": ("scheduler", "/srv/workspace")}
"""Each volume, and a service and the path where it is mounted."""

_CONTENTS = "contents.json"


def back_up(engine: Engine, folder: Path) -> dict[str, int]:
    """Writes a backup of a running stack without stopping it.

    The databases are dumped first: every artifact and file that they name was
    written before and is never changed.

    Args:
        engine: The stack.
        folder: A folder that does not exist; only its owner can read it, since it holds the secrets.

    Returns:
        Bytes by file.

    Raises:
        ConfigError: If the folder exists.
        StoreError: If the stack does not answer.
    """
    if folder.exists():
        raise ConfigError(f"backup: must be a new folder, got {str(folder)!r}.")
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
    contents = {path.name: sha256_of_file(path) for path in sorted(beside.iterdir())}
    (beside / _CONTENTS).write_text(json.dumps(contents, indent=2))
    beside.rename(folder)
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def restore(engine: Engine, folder: Path) -> None:
    """Fills the empty volumes of a stack that does not run from a backup; `make server-up` then starts it.

    Raises:
        ConfigError: If there are containers, tables or other secrets already.
        DataError: If a file of the backup is missing or changed.
        StoreError: If the engine or a database fails.
    """
    _check_digests(folder)
    wrote = _restore_secrets(engine, folder / "env")  # first, since Compose needs them
    if engine.services():
        if wrote:
            engine.env_file.unlink()
        raise ConfigError(
            "restore: this stack must have no containers, got some. "
            "To replace it, back it up and remove it with its volumes: make server-down, docker compose down --volumes."
        )
    engine.compose("build", "--quiet", "airflow-init")  # the image of all services; a new machine has none
    engine.start("postgres")
    postgres = engine.service("postgres").container
    for name, owner in DATABASES.items():
        _restore_database(engine, postgres, folder / f"{name}.dump", name, owner)
    for name, (service, place) in FOLDERS.items():
        _restore_volume(engine, folder / f"{name}.tar", service, place)


def _restore_volume(engine: Engine, archive: Path, service: str, place: str) -> None:
    """Extracts an archive into the volume of a container that only sleeps, without its dependencies."""
    sleeping = f"bincount-restore-{os.getpid()}"
    engine.compose("run", "--detach", "--no-deps", "--name", sleeping, service, "sleep", "infinity")
    try:
        with archive.open("rb") as file:
            into = ["tar", "--extract", "--file=-", f"--directory={Path(place).parent}", "--no-overwrite-dir"]
            engine.docker("exec", "--interactive", sleeping, *into, stdin=file)
    finally:
        engine.docker("rm", "--force", sleeping)


def _restore_database(engine: Engine, postgres: str, dump: Path, name: str, owner: str) -> None:
    count = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    query = ["exec", postgres, "psql", "--username=postgres", f"--dbname={name}", "--tuples-only", f"--command={count}"]
    tables = int(engine.docker(*query))
    if tables:
        raise ConfigError(
            f"restore: the database {name} must be empty, got {tables} tables. "
            "Back it up, then remove it: make server-down, docker compose down --volumes."
        )
    flags = ["--username=postgres", f"--dbname={name}", "--no-owner", f"--role={owner}", "--no-privileges"]
    with dump.open("rb") as file:
        flags += ["--single-transaction", "--exit-on-error"]
        engine.docker("exec", "--interactive", postgres, "pg_restore", *flags, stdin=file)


def _restore_secrets(engine: Engine, backed_up: Path) -> bool:
    """Writes the secrets unless they are there; returns whether it wrote them."""
    here = engine.env_file
    if here.exists() and read_env(here.read_text()) != read_env(backed_up.read_text()):
        raise ConfigError(
            f"restore: {here.name} must be absent or that of the backup, got another. Move it away: "
            "the restored databases accept only the backup's secrets."
        )
    absent = not here.exists()
    if absent:
        here.touch(mode=0o600)
        here.write_bytes(backed_up.read_bytes())
    return absent


def _check_digests(folder: Path) -> None:
    try:
        contents = json.loads((folder / _CONTENTS).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: must be a complete backup with {_CONTENTS}, got {error}.") from error
    needed = {*(f"{name}.dump" for name in DATABASES), *(f"{name}.tar" for name in FOLDERS), "env"}
    for name in sorted(needed | set(contents)):
        path = folder / name
        if not path.is_file() or sha256_of_file(path) != contents.get(name):
            raise DataError(f"{path}: must be as it was written, got a changed or missing file. Use another backup.")


def main() -> None:
    """Backs up or restores the checkout's stack."""
    parser = argparse.ArgumentParser(prog="python -m bincount.server.backup", description=main.__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="a new folder (default: backups/<time>)")
    parser.add_argument("--restore", action="store_true", help="restore from that folder instead")
    args = parser.parse_args()
    try:
        if args.restore:
            if args.folder is None:
                raise ConfigError("restore: must name a backup, got none. Run make restore FROM=backups/...")
            restore(Engine(), args.folder)
            print("restored; make server-up starts it")
            return
        folder = args.folder or CHECKOUT / "backups" / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H%M%SZ}"
        sizes = back_up(Engine(), folder)
        print(f"{folder}: {sum(sizes.values()) / 1e6:.1f} MB in {len(sizes)} files. Keep it private, it holds secrets.")
    except BincountError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
