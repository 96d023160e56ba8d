"""Who becomes champion by hand, goes back, is rejected; and what two at once may do."""

import dataclasses
import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bincount.config import GateLimits
from bincount.errors import ConfigError
from bincount.registry.decision import new_decision, write_decision
from bincount.registry.gate import gate
from bincount.registry.gate_rules import ACCEPTED, REFUSED, UNDECIDED
from bincount.registry.promotion import history, promote, reject, rollback
from bincount.settings import Settings
from bincount.tracking import champion, model_registry, runs
from bincount.tracking.client import mlflow_client
from tests.evaluate.trained import as_if_served
from tests.stores import make_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def registered(tmp_path):
    """Settings, and a function that registers a version on which the gate has decided."""
    settings = make_settings(tmp_path)
    with mlflow_client(settings, "tests") as client:
        client.create_registered_model(model_registry.MODEL)

    def register(*, against=None, outcome=ACCEPTED):
        run_id = runs.open_run(settings)
        with mlflow_client(settings, "tests") as client:
            made = client.create_model_version(model_registry.MODEL, "file:///nowhere", run_id, description="Base.")
        version = str(made.version)
        decision = new_decision(settings, against, outcome=outcome, reason=f"The gate says {outcome}.")
        write_decision(settings, version, decision, "Gate", decision.reason)
        as_if_served(settings, version)
        model_registry.set_challenger(settings, version)
        return version

    return settings, register


def aliases(settings):
    return {name: model_registry.alias(settings, name) for name in ("champion", "previous", "challenger")}


def test_a_version_is_promoted_with_who_and_why(registered):
    settings, register = registered
    version = register()
    assert promote(settings, model_version=version, actor="ada") == {
        "promoted": True,
        "reason": "The gate says accepted.",
    }
    assert aliases(settings) == {"champion": version, "previous": None, "challenger": None}
    (move,) = history(settings)["moves"]
    assert (move["champion"], move["instead_of"], move["actor"], move["reason"]) == (
        version,
        None,
        "ada",
        "The gate says accepted.",
    )
    assert promote(settings, model_version=version)["promoted"]  # again: nothing moves
    assert len(history(settings)["moves"]) == 1


def test_force_overrules_the_gate_and_says_why(registered):
    settings, register = registered
    bad = register(outcome=REFUSED)
    assert not promote(settings, model_version=bad)["promoted"]
    with pytest.raises(ConfigError, match="--reason: must be given to overrule the gate"):
        promote(settings, model_version=bad, force=True)
    assert aliases(settings)["champion"] is None
    answer = promote(settings, model_version=bad, force=True, actor="ada", reason="a demonstration")
    assert answer == {"promoted": True, "reason": "Promoted by ada without the gate: a demonstration"}
    version = model_registry.version_of(settings, bad)
    assert version.tags["bincount.promoted"] == "true"
    assert "## By hand\n\nPromoted by ada" in version.description
    assert "## Gate" in version.description
    assert promote(settings, model_version=bad)["promoted"]  # asked again, the person's answer holds


def test_a_rollback_takes_seconds_and_stays(registered):
    settings, register = registered
    first = register()
    promote(settings, model_version=first)
    second = register(against=first)
    promote(settings, model_version=second)
    began = time.monotonic()
    answer = rollback(settings, reason="it counts tape", actor="ada")
    assert time.monotonic() - began < 5
    assert (answer["model_version"], answer["instead_of"]) == (first, second)
    assert aliases(settings) == {"champion": first, "previous": second, "challenger": None}
    latest = history(settings)["moves"][0]
    assert (latest["champion"], latest["reason"]) == (first, "it counts tape")
    # What was decided against version 1 before does not bring it back.
    assert promote(settings, model_version=second) == {
        "promoted": False,
        "reason": f"Rolled back to version {first} by ada: it counts tape.",
    }
    assert aliases(settings)["champion"] == first
    # And on again: back to what was rolled back.
    assert rollback(settings)["model_version"] == second
    assert aliases(settings) == {"champion": second, "previous": first, "challenger": None}


def test_a_rollback_to_a_named_version(registered):
    settings, register = registered
    versions = [register()]
    promote(settings, model_version=versions[0])
    for _ in range(2):
        versions.append(register(against=versions[-1]))
        promote(settings, model_version=versions[-1])
    never = register(against=versions[-1])
    with pytest.raises(ConfigError, match=f"must have been champion, got {never}, which never was"):
        rollback(settings, model_version=never)
    with pytest.raises(ConfigError, match=f"must be an earlier champion than {versions[-1]}"):
        rollback(settings, model_version=versions[-1])
    rollback(settings, model_version=versions[0])
    assert aliases(settings) == {"champion": versions[0], "previous": versions[-1], "challenger": never}


def test_there_must_be_something_to_go_back_to(registered):
    settings, register = registered
    with pytest.raises(ConfigError, match="champion: there must be one to go back from, got none"):
        rollback(settings)
    promote(settings, model_version=register())
    with pytest.raises(ConfigError, match="must be an earlier champion than 1, got none"):
        rollback(settings)


def test_a_rejected_version_stays_out_until_the_champion_changes(registered):
    settings, register = registered
    first = register()
    promote(settings, model_version=first)
    second, third = register(against=first), register(against=first)
    assert reject(settings, model_version=second, actor="ada", reason="no empty bins")["reason"] == (
        "Not promoted: rejected by ada: no empty bins."
    )
    assert promote(settings, model_version=second)["promoted"] is False
    with mlflow_client(settings, "tests") as client:
        assert client.get_run(model_registry.version_of(settings, second).run_id).info.status == "FINISHED"
    with pytest.raises(ConfigError, match="must not be champion to be rejected"):
        reject(settings, model_version=first)
    promote(settings, model_version=third)
    with pytest.raises(Exception, match="must be evaluated"):  # the gate is asked anew, and finds no evaluation here
        promote(settings, model_version=second)


def test_an_approval_holds_for_the_champion_it_was_given_against(registered):
    settings, register = registered
    first = register()
    promote(settings, model_version=first)
    second, third = register(against=first), register(against=first)
    promote(settings, model_version=second)
    answer = promote(settings, model_version=third, expected_champion=first)
    assert (
        answer["reason"] == f"Not promoted: it was approved against champion {first}, and the champion is {second} now."
    )
    assert aliases(settings)["champion"] == second


def test_where_the_gate_cannot_tell_a_person_decides(registered):
    settings, register = registered
    first = register()
    promote(settings, model_version=first)
    second = register(against=first, outcome=UNDECIDED)
    answer = gate(settings, model_version=second)
    assert (answer["outcome"], answer["agreed"]) == ("undecided", False)
    assert promote(settings, model_version=second, actor="ada") == {
        "promoted": False,
        "reason": "The gate says undecided.",
    }
    assert aliases(settings)["champion"] == first
    # Approved against another champion: no.
    assert not promote(settings, model_version=second, actor="ada", expected_champion="none")["promoted"]
    approved = promote(settings, model_version=second, actor="ada", expected_champion=first)
    assert approved == {"promoted": True, "reason": "Promoted: approved by ada, where the gate is undecided."}
    assert aliases(settings) == {"champion": second, "previous": first, "challenger": None}
    assert promote(settings, model_version=second, actor="ada", expected_champion=first) == approved  # a retry
    assert "## By hand\n\nPromoted: approved by ada" in model_registry.version_of(settings, second).description


def test_no_approval_helps_a_version_that_was_refused_or_cannot_be_served(registered):
    from bincount.registry.serving_check import store_check

    settings, register = registered
    refused, unservable = register(outcome=REFUSED), register(outcome=UNDECIDED)
    store_check(settings, unservable, servable=False, reason="served, it is refused: bin 3 should be 2")
    for version in (refused, unservable):
        assert not promote(settings, model_version=version, actor="ada", expected_champion="none")["promoted"]
    assert aliases(settings)["champion"] is None
    assert gate(settings, model_version=unservable)["outcome"] == "undecided"  # the approval left no trace


def test_without_an_actor_the_user_of_the_process_is_named(registered):
    settings, register = registered
    version = register(outcome=UNDECIDED)
    reason = promote(settings, model_version=version, expected_champion="none")["reason"]
    assert reason == f"Promoted: approved by {champion.whoami()}, where the gate is undecided."


def test_an_answer_holds_for_the_limits_it_was_given_with(registered):
    settings, register = registered
    version = register()
    assert gate(settings, model_version=version)["agreed"]
    stricter = dataclasses.replace(settings, gate=GateLimits(ece=0.01))
    with pytest.raises(Exception, match="must be evaluated"):
        gate(stricter, model_version=version)


def test_a_person_s_refusal_holds_whatever_the_limits(registered):
    settings, register = registered
    settings_later = dataclasses.replace(settings, gate=GateLimits(ece=0.01, shadow_log="/log"))
    version = register()
    reject(settings, model_version=version, actor="ada", reason="its photos are of another site")
    assert gate(settings_later, model_version=version)["reason"] == gate(settings, model_version=version)["reason"]
    assert not gate(settings_later, model_version=version)["agreed"]


def test_the_limits_come_from_the_environment():
    assert Settings.from_env({"BINCOUNT_GATE": '{"ece": 0.02, "groups": 50}'}).gate == GateLimits(ece=0.02, groups=50)
    wrong = ("ece", '{"ece": "high"}', '{"eec": 0.1}', '{"groups": 1}', '{"ece": -1}', '{"recall_fall": NaN}')
    for text in (*wrong, '{"shadow_photos": 100}', '{"shadow_photos": -1, "shadow_log": "/log"}'):
        with pytest.raises(ConfigError, match="BINCOUNT_GATE: "):
            Settings.from_env({"BINCOUNT_GATE": text})


def test_a_version_that_failed_its_serving_check_is_not_promoted(registered):
    from bincount.registry.serving_check import store_check

    settings, register = registered
    version = register()
    store_check(settings, version, servable=False, reason="served, it is refused: bin 3 should be 2")
    assert (
        promote(settings, model_version=version)["reason"] == "Not promoted: served, it is refused: bin 3 should be 2."
    )
    assert aliases(settings)["champion"] is None
    assert "**not met**: served, it is refused" in model_registry.version_of(settings, version).description


# All begin at the same moment; each says how it ended.
AT_ONCE = """
import json, sys, time
from bincount.errors import StoreError
from bincount.tracking import champion, model_registry
from bincount.settings import Settings
from bincount.registry.promotion import promote

settings, version, how = Settings.from_env(), sys.argv[1], sys.argv[2]
model_registry.alias(settings, "champion")
print("ready", flush=True)
time.sleep(max(0, float(sys.stdin.readline()) - time.time()))
try:
    if how == "crown":
        champion.move_champion(settings, version, instead_of="1", actor=version, reason="at once")
    else:
        promote(settings, model_version=version, force=True, reason="at once", actor=version)
    print("moved")
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["crown", pytest.param("promote", marks=pytest.mark.slow)])
def test_moves_at_once_follow_one_another(registered, how):
    settings, register = registered
    promote(settings, model_version=register())
    rivals = [register() for _ in range(4)]
    env = settings.environment() | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(AT_ONCE)]
    running = [
        subprocess.Popen([*command, version, how], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for version in rivals
    ]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    begin = time.time() + 0.5
    for process in running:
        process.stdin.write(f"{begin}\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=120)[0].strip() for process in running]

    moves = champion.champion_moves(settings)
    before = [None, *(move.champion for move in moves)]
    # Each took the place of the one before it, which is the previous one when it is the last.
    assert [move.instead_of for move in moves] == before[:-1]
    assert aliases(settings)["champion"] == moves[-1].champion
    assert aliases(settings)["previous"] == moves[-1].instead_of
    moved = [version for version, said in zip(rivals, ended, strict=True) if said == "moved"]
    assert sorted(move.champion for move in moves[1:]) == sorted(moved)
    if how == "crown":  # all were decided against version 1
        assert len(moved) == 1
        assert all("Another promotion came between" in said for said in ended if said != "moved")
    else:
        assert moved == rivals, ended


def test_a_move_is_readable_in_mlflow(registered):
    settings, register = registered
    promote(settings, model_version=register(), actor="ada")
    with mlflow_client(settings, "tests") as client:
        (tag,) = [
            value for key, value in client.get_registered_model(model_registry.MODEL).tags.items() if "move" in key
        ]
    assert json.loads(tag)["actor"] == "ada"
