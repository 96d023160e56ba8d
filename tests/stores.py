"""A tracking store of its own for every test, made in no time."""

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest

from bincount.edge.mlflow_door import door
from bincount.edge.settings import Settings

OTHERS_WARNINGS = [
    # MLflow 3.17.2 still asks SQLAlchemy 2.1 for a strategy that it is about to lose.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    # Keras 3.15 reads TensorFlow's variables with NumPy 1's protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    # Importing mlflow.pyfunc warns of MLflow's own type hints.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
    # MLflow 3.17.2 compares a column's index with a range, which pandas 4 will read differently.
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning"),
]


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
    with door(Settings(folder, f"sqlite:///{folder / 'empty.db'}", folder), "tests") as client:
        client.search_experiments()
    return folder / "empty.db"
