"""Importing counts in a real Airflow: counts that are worse than stated publish a drift, once."""

import pytest

from bincount.local.supervisor import Supervisor
from bincount.reconcile.reconcile import reconcile
from tests.dags.airflow_stack import AirflowStack
from tests.reconcile.reconciled import read_lists, registered, write_like_learned, write_records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DAG = "import_outcomes"
TITLES = ("id", "counted", "when")


class OutcomesStack(AirflowStack):
    """The stack with a worklist of 40 bins, half of whose records are stated to be wrong."""

    def __init__(self, place):
        super().__init__(place)
        model = registered(self.settings, sharpness=4.0)
        self.settings.records.mkdir(parents=True)
        answer = reconcile(
            self.settings,
            track=True,
            source=write_like_learned(place / "bins", bins=40),
            model=model,
            error_rate=0.5,
        )
        self.run_id, self.expected_wrong = answer["run_id"], answer["expected_wrong"]
        self.records = {
            line["id"]: line["recorded"] for line in read_lists(self.settings.run(self.run_id) / "reconcile")[0]
        }

    def published(self):
        """The extra of each event of the asset."""
        events = self.api(DAG).call("GET", "/api/v2/assets/events?limit=100")["asset_events"]
        return [event["extra"] for event in events if event["name"] == "bincount_drift"]

    def import_counts(self, bins):
        """Imports the counts of some bins, each as many as recorded; the states of the run and its tasks."""
        rows = [(bin_id, count, "2026-11-20") for bin_id, count in list(self.records.items())[:bins]]
        write_records(self.settings.records / "counts.csv", rows, TITLES)
        return self.end_of(DAG, self.api(DAG).trigger({"file": "counts.csv"}))


def test_counts_that_are_worse_than_stated_publish_a_drift_once(tmp_path):
    stack = OutcomesStack(tmp_path)
    assert stack.expected_wrong > 15
    done = ("success", {"import_counts": "success", "report_decay": "success"})
    with Supervisor(stack.stack.home) as supervisor:
        stack.start(supervisor)
        stack.wait(stack.api(DAG).has_dag)
        assert stack.import_counts(2) == done
        assert stack.published() == []
        for bins in (39, 39, 40):  # the same again, and one more of the same worklist
            assert stack.import_counts(bins) == done
            (extra,) = stack.published()
        assert extra["run_id"] == stack.run_id
        assert extra["facts"]["found"]["value"] == 0
        assert stack.messages.read_text().count("counts are worse than stated: ") == 1
