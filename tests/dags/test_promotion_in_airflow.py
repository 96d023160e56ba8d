"""Promotion and rollback in a real Airflow: approved, rejected, not answered, and the notifications sent."""

import pytest

from bincount.local.stack import USER
from bincount.local.supervisor import Supervisor
from bincount.registry.promotion import history
from bincount.tracking import model_registry
from tests.dags.airflow_stack import AirflowStack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # Of the models that these tests write.
    pytest.mark.filterwarnings("ignore:.*Add type hints to the `predict` method:UserWarning"),
]


@pytest.fixture
def started(tmp_path):
    stack = AirflowStack(tmp_path)
    with Supervisor(stack.stack.home) as supervisor:
        yield stack, supervisor


def test_who_becomes_champion_in_airflow(started):
    stack, supervisor = started
    first = stack.passing_version(1, None)
    second = stack.passing_version(2, first)
    third, fourth = (stack.passing_version(seed, "2") for seed in (3, 4))
    stack.start(supervisor)
    trigger = stack.api("promote_only").trigger

    # Without an approval.
    state, tasks = stack.end_of("promote_only", trigger({"version": 1}))
    assert state == "success"
    assert tasks.pop("approve") == "skipped"
    assert set(tasks.values()) == {"success"}, tasks
    assert model_registry.alias(stack.settings, "champion") == first

    # Approved.
    run = trigger({"version": 2, "require_approval": True})
    question = stack.question(run)
    assert question["subject"] == "May version 2 become champion instead of 1?"
    assert "Promoted: 2 reasons." in question["body"]
    stack.answer(run, "Approve", "it sees tape")
    state, tasks = stack.end_of("promote_only", run)
    assert state == "success"
    assert set(tasks.values()) == {"success"}, tasks
    latest = history(stack.settings)["moves"][0]
    assert (latest["champion"], latest["instead_of"], latest["reason"]) == (second, first, "it sees tape")
    assert latest["actor"].lower() == USER

    # Rejected, and not answered.
    unanswered = trigger({"version": 4, "require_approval": True, "approval_minutes": 1})
    rejected = trigger({"version": 3, "require_approval": True})
    stack.question(rejected)
    stack.answer(rejected, "Reject", "no empty bins")
    for run, version, reason in [
        (rejected, third, "Not promoted: rejected by admin: no empty bins."),
        (unanswered, fourth, "Not promoted: rejected by timeout: nobody answered in time."),
    ]:
        state, tasks = stack.end_of("promote_only", run)
        assert state == "success"
        assert tasks["approve"] == "success"
        assert [tasks["promote"], tasks["verify_serving"]] == ["skipped", "skipped"]
        assert stack.tags(version)["bincount.reason"].replace("Admin", "admin") == reason
    assert model_registry.alias(stack.settings, "champion") == second

    # Rolled back; a run that fails.
    run = stack.api("rollback_bin_counter").trigger({"reason": "it counts tape"})
    state, tasks = stack.end_of("rollback_bin_counter", run)
    assert (state, set(tasks.values())) == ("success", {"success"})
    assert model_registry.alias(stack.settings, "champion") == first
    assert history(stack.settings)["moves"][0]["reason"] == "it counts tape"
    failed = trigger({"version": 999})
    assert stack.end_of("promote_only", failed)[0] == "failed"

    stack.wait(lambda: failed in stack.messages.read_text())
    messages = stack.messages.read_text()
    for words in (
        "version 1 is champion instead of none, by admin: Promoted: 1 reasons.",
        "May version 2 become champion instead of 1?",
        "version 2 is champion instead of 1, by admin: it sees tape",
        "version 3: Not promoted: rejected by ",
        "version 1 is champion again: Rolled back to version 1 by ",
        f"promote_only: run {failed} failed",
    ):
        assert words in messages, messages
