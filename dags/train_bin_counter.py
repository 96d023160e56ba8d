"""From bins in a bucket to a prediction that MLflow serves.

Each task runs one step of the package, `python -m bincount STEP`, in a fresh
process; its log begins with that command. **MLflow run** links a task to the
run it works on. A version that is no better than a baseline, that is worse than
the champion or that cannot be served is registered and not promoted.

`plan` reads all metadata and assigns the bins to shards. One `fetch` per
partition writes its share of the shards, on any worker that sees the workspace,
and `ingest` joins them into one manifest. One `extract` per partition computes
the features of its share, and `prepare` those that are still missing. A `fetch`
or an `extract` that failed can be cleared on its own.

The DAG runs when it is triggered. If the operator names a source in
AIRFLOW__BINCOUNT__TRAIN_BIN_COUNTER (`schedules.py`), it also runs when
`reconcile_inventory` has reported a drift.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, get_current_context, task
from forms import form_params
from promotion import APPROVAL, promotion_of
from schedules import DRIFT, operator_form, with_defaults
from step_tasks import DAG_DEFAULTS, EXTRACTION, GPU, MlflowRunLink, params_of, run_step

from bincount.config import BinsConfig, FormConfig, NetworkConfig, SearchConfig, TrainConfig

NAME = "train_bin_counter"
FORM = operator_form(NAME)

PARAMS = {**form_params(FormConfig, source="s3://bins"), **APPROVAL}


@task
def plan() -> list[dict[str, Any]]:
    """Reads all metadata and decides which shards each partition fetches."""
    partitions = params_of(FormConfig)["partitions"]  # all of the form, so that what is wrong with it is said at once
    planned = run_step("plan", {}, **params_of(BinsConfig), **other_counts())
    of = min(partitions, planned["shards"])
    return [{"plan": planned["plan"], "share": f"{number}/{of}"} for number in range(1, of + 1)]


def other_counts() -> dict[str, bool]:
    """The flag that fetches bins with other counts too, where the network is fine-tuned; it learns from them."""
    return {"other_counts": True} if params_of(TrainConfig)["fine_tune_epochs"] else {}


@task
def fetch(part: dict[str, Any]) -> dict[str, Any]:
    """Fetches the shards of one partition that are not there yet."""
    return run_step("fetch", {}, **part)


@task
def ingest() -> dict[str, Any]:
    """Joins the shards into a manifest and opens the MLflow run."""
    attempt = get_current_context()["run_id"]  # a retry finds the MLflow run by it
    return run_step("ingest", {}, attempt=attempt, **params_of(BinsConfig), **other_counts())


@task(**EXTRACTION)
def extract(so_far: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Computes the features of one partition."""
    return run_prepare(so_far, share=part["share"])


@task(**GPU)
def prepare(so_far: dict[str, Any]) -> dict[str, Any]:
    """Computes the features that are still missing, if any."""
    return run_prepare(so_far)


def run_prepare(so_far: dict[str, Any], **share: str) -> dict[str, Any]:
    """Runs prepare with the same settings for each partition and for what is left."""
    network = params_of(NetworkConfig)
    return run_step("prepare", so_far, run_id=so_far["run_id"], manifest=so_far["manifest"], **network, **share)


@task(**GPU)
def tune(so_far: dict[str, Any]) -> dict[str, Any]:
    """Searches learning rate, batch size and epochs."""
    search = params_of(SearchConfig)
    return run_step("tune", so_far, run_id=so_far["run_id"], features=so_far["features"], **search)


@task(**GPU)
def train(so_far: dict[str, Any]) -> dict[str, Any]:
    """Trains the best head and saves the whole model."""
    training = params_of(TrainConfig)
    return run_step("train", so_far, run_id=so_far["run_id"], features=so_far["features"], **training)


@task
def evaluate(so_far: dict[str, Any]) -> dict[str, Any]:
    """Scores the model on bins it has not seen."""
    answer = run_step("evaluate", so_far, run_id=so_far["run_id"])
    return {name: value for name, value in answer.items() if name not in ("pairs", "contents")}  # too large to pass on


@task
def register(so_far: dict[str, Any]) -> dict[str, Any]:
    """Registers the model with MLflow as a new version."""
    return run_step("register", so_far, run_id=so_far["run_id"])


@dag(
    **DAG_DEFAULTS | {"schedule": [DRIFT] if "source" in FORM else None},
    params=with_defaults(NAME, PARAMS, FORM),
    doc_md=__doc__,
)
def train_bin_counter() -> None:
    """From bins in a bucket to a prediction that is served."""
    parts, bins = plan(), ingest()
    fetch.expand(part=parts) >> bins
    extracted = extract.partial(so_far=bins).expand(part=parts)
    extracted >> (done := prepare(bins))
    tasks = [bins, extracted, done]
    for step in (tune, train, evaluate, register):
        tasks.append(done := step(done))
    for result in (*tasks, *promotion_of(done)):
        getattr(result, "operator", result).operator_extra_links = (MlflowRunLink(),)


train_bin_counter()
