import pytest

from bincount.server.engine import engine_problem


@pytest.fixture(scope="session")
def _engine():
    problem = engine_problem()
    if problem:
        pytest.skip(f"{problem}: the stack of docker-compose.yml was not run")
