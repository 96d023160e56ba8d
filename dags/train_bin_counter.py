"""From bins in a bucket to a prediction that MLflow serves.

Each task runs one step of the package as `python -m bincount STEP` in a fresh
process; its log begins with that command, to be pasted into a shell. From a
task, **MLflow run** leads to the run it works on. A version that is not better
than guessing, that is worse than the champion or that cannot be served is
registered but not promoted, and then serving is not verified.

With one partition, `ingest` fetches and `prepare` computes alone; `plan`,
`fetch` and `extract` are skipped. With more, `plan` reads all metadata and cuts
the bins into shards, one `fetch` for each partition writes its share of them,
wherever there is a worker that sees the workspace, and `ingest` joins the shares
into the same manifest. Then one `extract` for each partition computes the
features of its share, and `prepare` what is left. A `fetch` or an `extract` that
failed can be cleared on its own.

It runs when somebody fills in its form. If the operator names a source in
AIRFLOW__BINCOUNT__TRAIN_BIN_COUNTER (see `unattended.py`), it also runs when
`reconcile_inventory` has seen a drift.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from promotion import APPROVAL, promotion_of
from step_tasks import ALIKE, EXTRACTION, GPU, MlflowRunLink, params_of, run_step
from unattended import DRIFT, filled, form_of

NAME = "train_bin_counter"
FORM = form_of(NAME)

BINS = ("source", "limit", "counts", "seed")  # what plan and ingest must be asked alike
DATA, LEARNING, EFFORT = "Data", "Learning", "Effort"

PARAMS = {
    "source": Param(
        "s3://bins",
        type="string",
        title="Source",
        description="Bucket of the bins. s3://bins is the one that bincount up serves; "
        "s3://aft-vbi-pds is Amazon's, read without credentials where there are none.",
        examples=["s3://bins", "s3://aft-vbi-pds"],
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/?$",
        section=DATA,
    ),
    "limit": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="Limit",
        description="How many bins to draw; empty for all of them.",
        examples=[400, 5000],
        section=DATA,
    ),
    "counts": Param(
        "1-5",
        type="string",
        pattern=r"^[0-9]{1,2}-[0-9]{1,2}\+?$",
        title="Counts",
        description="Which counts to tell apart: 1-5, or 0-5+ to add empty bins and an open top class, 6 or more.",
        examples=["1-5", "0-5+"],
        section=DATA,
    ),
    "seed": Param(
        0,
        type="integer",
        minimum=0,
        maximum=2**31 - 1,
        title="Seed",
        description="What every random choice is drawn from: the same seed draws the same bins.",
        section=DATA,
    ),
    "backbone": Param(
        "ResNet50",
        type="string",
        pattern=r"^[A-Za-z][A-Za-z0-9]*$",
        title="Backbone",
        description="Keras application under the new head.",
        examples=["ResNet50", "EfficientNetV2B0", "MobileNetV2"],
        section=LEARNING,
    ),
    "weights": Param(
        "auto",
        type="string",
        minLength=1,
        title="Weights",
        description="imagenet, none for random ones, a file, or auto: imagenet where it is in reach, else none.",
        examples=["auto", "imagenet", "none"],
        section=LEARNING,
    ),
    "fit": Param(
        "pad",
        type="string",
        enum=["pad", "squash"],
        title="Fit",
        description="How a photo becomes square: pad keeps its aspect, squash does not.",
        section=LEARNING,
    ),
    "image_px": Param(
        224,
        type="integer",
        minimum=32,
        maximum=1024,
        title="Image size",
        description="Side of the square in pixels.",
        section=LEARNING,
    ),
    "partitions": Param(
        1,
        type="integer",
        minimum=1,
        maximum=64,
        title="Partitions",
        description="How many workers share fetching and features, each at least one shard of 100 MB; "
        "manifest and features are the same.",
        examples=[1, 4, 16],
        section=EFFORT,
    ),
    "trials": Param(
        5,
        type="integer",
        minimum=1,
        maximum=1000,
        title="Trials",
        description="How many sets of hyperparameters the search tries.",
        section=EFFORT,
    ),
    "max_epochs": Param(
        50,
        type="integer",
        minimum=1,
        maximum=1000,
        title="Most epochs",
        description="Most epochs of a trial; the search chooses how many.",
        section=EFFORT,
    ),
    "search": Param(
        "random",
        type="string",
        enum=["random", "bayesian", "grid"],
        title="Search",
        description="How trials are chosen: at random, by a Gaussian process, or from a grid.",
        section=EFFORT,
    ),
    "tune_also": Param(
        None,
        type=["null", "string"],
        pattern=r"^(dropout|units|loss_mix)(,(dropout|units|loss_mix)){0,2}$",
        title="Search also",
        description="What to search besides learning rate, batch size and epochs, separated by commas; "
        "empty for nothing.",
        examples=["dropout", "units,dropout", "dropout,units,loss_mix"],
        section=EFFORT,
    ),
    "loss_mix": Param(
        None,
        type=["null", "number"],
        minimum=0,
        maximum=1,
        title="Soft neighbour labels",
        description="Their share in the loss; empty for 0 in a head and 0.3 in whole networks.",
        examples=[0, 0.3],
        section=LEARNING,
    ),
    "fine_tune_epochs": Param(
        0,
        type="integer",
        minimum=0,
        maximum=1000,
        title="Fine-tuning epochs",
        description="Epochs of training the whole network after the head; 0 leaves the backbone as it is.",
        section=EFFORT,
    ),
    **APPROVAL,
}


@task
def plan() -> list[dict[str, Any]]:
    """Decides which shards each partition fetches; skipped if there is one partition."""
    partitions = params_of("partitions")["partitions"]
    if partitions == 1:
        raise AirflowSkipException("one partition: ingest fetches all")
    planned = run_step("plan", {}, **params_of(*BINS))
    of = min(partitions, planned["shards"])
    return [{"index": index, "of": of, **planned} for index in range(of)]


@task
def fetch(share: dict[str, Any]) -> dict[str, Any]:
    """Fetches the shards of one partition; skipped if all are there."""
    if share["finished"]:
        raise AirflowSkipException("the manifest is there already")
    return run_step("fetch", {}, request=share["request"], index=share["index"], of=share["of"])


@task(trigger_rule="none_failed")  # nothing to share is no reason not to ingest
def ingest() -> dict[str, Any]:
    """Fetches what is not there yet into shards, joins them into a manifest, and opens the MLflow run."""
    attempt = get_current_context()["run_id"]  # by which a retry finds the MLflow run again
    return run_step("ingest", {}, attempt=attempt, **params_of(*BINS))


@task(**EXTRACTION)
def extract(so_far: dict[str, Any], share: dict[str, Any]) -> dict[str, Any]:
    """Computes the features of one partition."""
    return run_prepare(so_far, index=share["index"], of=share["of"])


@task(**GPU, trigger_rule="none_failed")  # nothing to share is no reason not to prepare
def prepare(so_far: dict[str, Any]) -> dict[str, Any]:
    """Computes the backbone's features of every photo that has none yet."""
    return run_prepare(so_far)


def run_prepare(so_far: dict[str, Any], **share: int) -> dict[str, Any]:
    """Runs prepare, asked alike by whoever computes a share and by whoever computes what is left."""
    network = params_of("backbone", "weights", "fit", "image_px", "seed")
    return run_step("prepare", so_far, run_id=so_far["run_id"], manifest=so_far["manifest"], **network, **share)


@task(**GPU)
def tune(so_far: dict[str, Any]) -> dict[str, Any]:
    """Searches learning rate, batch size and epochs."""
    search = params_of("trials", "max_epochs", "search", "tune_also", "loss_mix", "seed")
    return run_step("tune", so_far, run_id=so_far["run_id"], prepared=so_far["prepared"], **search)


@task(**GPU)
def train(so_far: dict[str, Any]) -> dict[str, Any]:
    """Trains the best head and saves the whole model."""
    fit = params_of("fine_tune_epochs", "loss_mix", "seed")
    return run_step("train", so_far, run_id=so_far["run_id"], prepared=so_far["prepared"], **fit)


@task
def evaluate(so_far: dict[str, Any]) -> dict[str, Any]:
    """Scores the model on bins it has not seen."""
    return run_step("evaluate", so_far, run_id=so_far["run_id"])


@task
def register(so_far: dict[str, Any]) -> dict[str, Any]:
    """Registers the model with MLflow as a new version."""
    return run_step("register", so_far, run_id=so_far["run_id"])


@dag(**ALIKE | {"schedule": [DRIFT] if "source" in FORM else None}, params=filled(NAME, PARAMS, FORM), doc_md=__doc__)
def train_bin_counter() -> None:
    """From bins in a bucket to a prediction that is served."""
    shares, bins = plan(), ingest()
    fetch.expand(share=shares) >> bins
    extracted = extract.partial(so_far=bins).expand(share=shares)
    extracted >> (done := prepare(bins))
    tasks = [bins, extracted, done]
    for step in (tune, train, evaluate, register):
        tasks.append(done := step(done))
    for result in (*tasks, *promotion_of(done)):
        getattr(result, "operator", result).operator_extra_links = (MlflowRunLink(),)


train_bin_counter()
