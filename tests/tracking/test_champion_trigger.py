"""The trigger that Airflow's triggerer runs: one event a change of the champion, across restarts and outages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bincount.settings import Settings
from bincount.tracking import model_registry
from bincount.tracking.client import mlflow_client

ROOT = Path(__file__).parents[2]

# In a process of its own, since Airflow writes its configuration on import.
PROGRAM = """
import asyncio, json, sys
from bincount.errors import StoreError
from bincount.settings import Settings
from bincount.tracking import champion_trigger, model_registry
from bincount.tracking.client import mlflow_client

loaded = sorted({"tensorflow", "mlflow", "boto3", "numpy"} & set(sys.modules))
champion_trigger._PAUSE_S = champion_trigger._WRITTEN_S = 0.01
settings = Settings.from_env()

class Kept(dict):
    async def aget(self, key):
        return self.get(key)

    async def adelete(self, key):
        self.pop(key, None)

    async def aset(self, key, value):
        self[key] = value

def name(version):
    with mlflow_client(settings, "tests") as client:
        if version is None:
            client.delete_registered_model_alias(model_registry.MODEL, "champion")
        else:
            client.set_registered_model_alias(model_registry.MODEL, "champion", version)

asked, right = [], model_registry.alias

def alias(*arguments):
    asked.append(arguments)
    if alias.is_down and len(asked) < 3:
        raise StoreError("the tracking server must answer, got nothing.")
    return right(*arguments)

alias.is_down = False
model_registry.alias = alias

async def events(kept, *, killed=False):
    '''The events of a trigger that asks five times; killed, it ends with its first event.'''
    found, trigger = [], champion_trigger.ChampionTrigger()
    trigger.asset_state_store = kept
    asked.clear()
    async def collect():
        async for event in trigger.run():
            found.append(event.payload)
            if killed:
                return
    running = asyncio.create_task(collect())
    while len(asked) < 5 and not running.done():
        await asyncio.sleep(0.01)
    running.cancel()
    return found

async def main():
    kept, found = Kept(), {"loaded": loaded}
    found["no champion yet"] = await events(kept)
    name("1")
    found["the first champion"] = await events(kept)
    found["a restart"] = await events(kept)
    name("2")
    found["changed while it was down, and killed"] = await events(kept, killed=True)
    found["the event was not kept"] = await events(kept)
    name("1")
    await events(kept, killed=True)
    name("2")
    found["killed, and moved back"] = await events(kept)
    name(None)
    found["no champion"] = await events(kept)
    name("2")
    found["the same again"] = await events(kept)
    alias.is_down = True
    name("1")
    found["an outage"] = await events(kept)
    print(json.dumps(found))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    place = tmp_path_factory.mktemp("watched")
    uri = f"sqlite:///{place / 'mlflow.db'}"
    settings = Settings(workspace=place, tracking_uri=uri, artifacts=place / "artifacts")
    with mlflow_client(settings, "tests") as client:
        client.create_registered_model(model_registry.MODEL)
        run = client.create_run("0").info.run_id
        for _ in range(2):
            client.create_model_version(model_registry.MODEL, (place / "model").as_uri(), run_id=run)
    known = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "BINCOUNT"))}
    own = {"AIRFLOW_HOME": str(place), "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=known | own, cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_it_loads_nothing_heavy(found):
    assert found["loaded"] == []


@pytest.mark.parametrize(
    ("when", "events"),
    [
        ("no champion yet", []),
        ("the first champion", [{"version": "1", "instead_of": None}]),
        ("a restart", []),
        ("changed while it was down, and killed", [{"version": "2", "instead_of": "1"}]),
        ("the event was not kept", [{"version": "2", "instead_of": None}]),
        ("killed, and moved back", [{"version": "2", "instead_of": None}]),
        ("no champion", []),
        ("the same again", []),
        ("an outage", [{"version": "1", "instead_of": "2"}]),
    ],
)
def test_one_event_for_each_change(found, when, events):
    assert found[when] == events
