"""A tracking store of its own for every test, made in no time."""

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from bincount.settings import Settings
from bincount.tracking.client import mlflow_client


def make_settings(place, **more):
    """Settings whose workspace, MLflow database and artifacts are below `place`."""
    shutil.copy(_empty_database(), place / "mlflow.db")
    return Settings(
        workspace=place / "data",
        tracking_uri=f"sqlite:///{place / 'mlflow.db'}",
        artifacts=place / "artifacts",
        **more,
    )


@lru_cache
def _empty_database():
    """MLflow's tables, which it takes five seconds to make."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    with mlflow_client(Settings(folder, f"sqlite:///{folder / 'empty.db'}", folder), "tests") as client:
        client.search_experiments()
    return folder / "empty.db"
