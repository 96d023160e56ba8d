"""Settings that a user chooses for each step: name, meaning, default and range of each.

What the machine and its operator determine, such as paths, addresses and tokens, is read from the environment by
`settings.py`. Two groups of operators' settings have their classes here: the limits that `settings.py` reads
(`GateLimits`, `DriftLimits`, `DecayLimits`) and section `[bincount]` of Airflow's configuration (`AirflowConfig`).
The model server's limits are in `serving/admission.py`, flags of a single verb in `cli.py`.

The command line, the DAGs' forms and docs/settings.md are made from these classes. Only the standard library is
imported, so that reading a DAG file costs nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from bincount.counts import Counts
from bincount.errors import ConfigError
from bincount.schema import Schema, setting

FITS = ("pad", "squash")
SEARCHES = ("random", "bayesian", "grid")
TUNABLE = ("dropout", "units", "loss_mix")
"""Hyperparameters that a search may vary besides learning rate, batch size and epochs."""

BUCKET_PATTERN = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()/-]*)?$"
MODEL_PATTERN = r"^models:/bincount(/[0-9]+|@[A-Za-z0-9_-]+)$"
CHAMPION_URI = "models:/bincount@champion"


def parse_tunable(text: str | None) -> tuple[str, ...]:
    """Reads names of `TUNABLE` separated by commas; None and "" are none.

    Raises:
        ConfigError: If a name is another one or stands twice.

    Example:
        >>> parse_tunable("units,dropout"), parse_tunable(None)
        (('units', 'dropout'), ())
    """
    names = tuple(text.split(",")) if text else ()
    if not set(names) <= set(TUNABLE) or len(set(names)) < len(names):
        raise ConfigError(f"tune_also: must be some of {', '.join(TUNABLE)}, each once, got {text!r}.")
    return names


def _check_backbone(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name):
        raise ConfigError(f"backbone: must be the name of a Keras application, got {name!r}. Try ResNet50.")


_LEARNING, _EFFORT = "Learning", "Effort"
_SEED = {
    "low": 0,
    "high": 2**31 - 1,
    "metavar": "S",
    "title": "Seed",
    "help": "what every random choice is drawn from: the same seed draws the same bins",
}
_LOSS_MIX = {
    "low": 0,
    "high": 1,
    "metavar": "SHARE",
    "title": "Soft neighbour labels",
    "section": _LEARNING,
    "unset": "0 for a head, 0.3 for fine-tuning",
    "examples": (0, 0.3),
    "help": "share of soft neighbour labels in the loss",
}


_FINE_TUNE_EPOCHS = {
    "low": 0,
    "high": 1000,
    "metavar": "N",
    "title": "Fine-tuning epochs",
    "section": _EFFORT,
    "help": "epochs of fine-tuning the network on photos; 0 leaves it as it is and trains a head on its features",
}


@dataclass(frozen=True, kw_only=True)
class BinsConfig(Schema):
    """Settings that choose the bins, and the counts to tell apart."""

    source: str = setting(
        title="Source",
        pattern=BUCKET_PATTERN,
        examples=("s3://bins", "s3://aft-vbi-pds"),
        help='s3://BUCKET, a folder in the bucket\'s layout, or "sample" for bins that bincount renders; '
        "s3://aft-vbi-pds is Amazon's, read without credentials where there are none",
        form_help="the bucket of the bins; s3://bins is the one that bincount up serves, s3://aft-vbi-pds Amazon's, "
        "read without credentials where there are none",
    )
    limit: int | None = setting(
        None,
        low=1,
        high=10**9,
        metavar="N",
        title="Limit",
        unset="all",
        examples=(400, 5000),
        help="how many bins to draw",
    )
    counts: str = setting(
        "1-5",
        pattern=r"^[0-9]{1,2}-[0-9]{1,2}\+?$",
        check=Counts.parse,
        title="Counts",
        examples=("1-5", "0-5+"),
        help="which counts to tell apart: 1-5, or 0-5+ to add empty bins and an open top class, 6 or more; "
        "choose 0-5+ to reconcile",
    )
    seed: int = setting(0, **_SEED)


@dataclass(frozen=True, kw_only=True)
class FetchConfig(Schema):
    """Settings of fetching; they do not change the result."""

    # An answer takes 20 ms and more: with fewer requests at a time the processor would wait.
    workers: int = setting(256, low=1, high=512, metavar="W", help="requests at a time")
    max_rejected: float = setting(
        0.02, low=0, high=1, metavar="SHARE", help="largest share of faulty bins that is published"
    )


@dataclass(frozen=True, kw_only=True)
class IngestConfig(FetchConfig, BinsConfig):
    """Settings of an ingest."""

    ids: str | None = setting(
        None,
        metavar="FILE|A-B",
        unset="all of the source",
        help="file_list.json, a CSV, one id a line, or a range of ids",
    )
    other_counts: bool = setting(
        False,
        help="fetch bins with other counts too, for fine-tuning to learn from; they are never scored",
    )


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Schema):
    """The network that turns photos into features."""

    backbone: str = setting(
        "auto",
        pattern=r"^[A-Za-z][A-Za-z0-9]*$",
        check=_check_backbone,
        title="Backbone",
        section=_LEARNING,
        examples=("auto", "ResNet50", "EfficientNetLite0"),
        help="auto: ResNet50 where its ImageNet weights are in reach, else EfficientNetLite0, whose weights are "
        "installed; or any Keras application",
    )
    weights: str = setting(
        "auto",
        title="Weights",
        section=_LEARNING,
        examples=("auto", "imagenet", "none"),
        help="the weights to begin with: auto or imagenet: ImageNet's, where the backbone has them; none: random ones; "
        "or a file",
    )
    fit: str = setting(
        "pad",
        choices=FITS,
        title="Fit",
        section=_LEARNING,
        help="how a photo becomes square: pad keeps its aspect, squash does not",
    )
    image_px: int = setting(
        224,
        low=32,
        high=1024,
        metavar="PX",
        title="Image size",
        section=_LEARNING,
        help="side of the square in pixels",
    )
    seed: int = setting(0, **_SEED)


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Schema):
    """The search for hyperparameters."""

    trials: int = setting(
        5,
        low=1,
        high=1000,
        metavar="N",
        title="Trials",
        section=_EFFORT,
        help="how many sets of hyperparameters the search tries",
    )
    max_epochs: int = setting(
        50,
        low=1,
        high=1000,
        metavar="N",
        title="Maximum epochs",
        section=_EFFORT,
        help="maximum number of epochs of a trial; the search chooses how many",
    )
    search: str = setting(
        "random",
        choices=SEARCHES,
        title="Search",
        section=_EFFORT,
        help="how trials are chosen: at random, by a Gaussian process, or from a grid",
    )
    tune_also: str | None = setting(
        None,
        pattern=r"^(dropout|units|loss_mix)(,(dropout|units|loss_mix)){0,2}$",
        check=parse_tunable,
        metavar="NAMES",
        title="Search also",
        section=_EFFORT,
        unset="nothing",
        examples=("dropout", "units,dropout", "dropout,units,loss_mix"),
        help="what to search besides learning rate, batch size and epochs, separated by commas",
    )
    search_fine_tuning: bool = setting(
        False,
        title="Search fine-tuning",
        section=_EFFORT,
        help="search learning rate, batch size and epochs of the fine-tuning too, with at most its epochs a trial",
    )
    search_minutes: int = setting(
        120,
        low=1,
        high=100_000,
        metavar="N",
        title="Minutes of that search",
        section=_EFFORT,
        help="no further trial of the fine-tuning begins after so many minutes",
    )
    fine_tune_epochs: int = setting(0, **_FINE_TUNE_EPOCHS)
    loss_mix: float | None = setting(None, **_LOSS_MIX)
    seed: int = setting(0, **_SEED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.search_fine_tuning and not self.fine_tune_epochs:
            raise ConfigError(
                f"search_fine_tuning: must stand with fine_tune_epochs, got {self.fine_tune_epochs} of them. "
                "Say with how many epochs to fine-tune."
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Schema):
    """The final training."""

    fine_tune_epochs: int = setting(0, **_FINE_TUNE_EPOCHS)
    loss_mix: float | None = setting(None, **_LOSS_MIX)
    seed: int = setting(0, **_SEED)


@dataclass(frozen=True, kw_only=True)
class ChainConfig(TrainConfig, SearchConfig, NetworkConfig, BinsConfig):
    """One run of the chain: what `bincount run` takes."""


@dataclass(frozen=True, kw_only=True)
class FormConfig(ChainConfig):
    """The form of the DAG `train_bin_counter`."""

    partitions: int = setting(
        1,
        low=1,
        high=64,
        metavar="N",
        title="Partitions",
        section=_EFFORT,
        examples=(1, 4, 16),
        help="how many tasks share fetching and features, each at least one shard of 100 MB; "
        "manifest and features are the same",
    )


@dataclass(frozen=True, kw_only=True)
class UpConfig(Schema):
    """The run of the chain that `bincount up` starts."""

    source: str = setting(
        "sample", help='"sample" for bins that bincount renders, a folder in the bucket\'s layout, or s3://BUCKET'
    )
    limit: int | None = setting(None, low=1, high=10**9, metavar="N", unset="all", help="how many bins to draw")
    seed: int = setting(0, **_SEED)
    partitions: int = setting(1, low=1, high=64, metavar="N", help="how many tasks share fetching and features")


_LIMIT, _HOW = "How many to count", "How to judge"


def _costs(**facts: Any) -> dict[str, Any]:
    return {"low": 0, "high": 1e12, "unset": "not used", **facts}


_COUNT_COST = _costs(
    metavar="C",
    title="Cost of counting",
    section=_LIMIT,
    help="what it costs to count a bin; with the cost of a miss, in the same currency",
)
_MISS_COST = _costs(
    metavar="M", title="Cost of a miss", section=_LIMIT, help="what a wrong record that is not found costs"
)


@dataclass(frozen=True, kw_only=True)
class ReconcileConfig(Schema):
    """Settings of a reconciliation: `bincount reconcile`'s flags and the form of `reconcile_inventory`."""

    source: str = setting(
        title="Source",
        pattern=BUCKET_PATTERN,
        examples=("s3://bins", "s3://aft-vbi-pds"),
        help='where the photos are: s3://BUCKET, a folder in the bucket\'s layout, or "sample"',
        form_help="the bucket of the photos; s3://bins is the one that bincount up serves",
    )
    records: str | None = setting(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(csv|parquet)$",
        metavar="FILE",
        title="Records",
        unset="the source's own metadata",
        examples=("stock.csv",),
        help="CSV or parquet with the columns id and recorded and, optionally, location, unit_value, and before (id of "
        "an earlier photo of the bin) with counted_before (the count that was confirmed then); with --track, the name "
        "of a file in the workspace's folder records",
        form_help="name of a CSV or parquet file in the workspace's folder records, with the columns id and recorded "
        "and, optionally, location, unit_value, and before (id of an earlier photo of the bin) with counted_before "
        "(the count that was confirmed then)",
    )
    confirmed: str | None = setting(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(csv|parquet)$",
        metavar="FILE",
        title="Confirmed counts",
        unset="none",
        examples=("confirmed.csv",),
        help="confirmed.csv of `bincount outcomes import`: the earlier photos and counts of the bins in it, found by "
        "before or location; with --track, the name of a file in the workspace's folder records",
        form_help="name of a file in the workspace's folder records, as `bincount outcomes import` writes it: the "
        "earlier photos and counts of the bins in it, found by before or location",
    )
    contents: str | None = setting(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(csv|parquet)$",
        metavar="FILE",
        title="Contents",
        unset="those of the source's own metadata, where these are the records",
        examples=("contents.csv",),
        help="CSV or parquet of the products on the records, a row each, with the columns id, product, quantity, "
        "length, width, height and weight, in inches and pounds or with size_unit and weight_unit; with --track, the "
        "name of a file in the workspace's folder records",
        form_help="name of a CSV or parquet file in the workspace's folder records, a row a product, with the columns "
        "id, product, quantity, length, width, height and weight, in inches and pounds or with size_unit and "
        "weight_unit",
    )
    model: str = setting(
        CHAMPION_URI,
        pattern=MODEL_PATTERN,
        metavar="URI",
        title="Model",
        examples=(CHAMPION_URI, "models:/bincount/3"),
        help="an alias or a version; a model of the counts 0-5+ can judge every record, one of 1-5 cannot judge a "
        "record of 0, or of 6 and more",
    )
    capacity: int | None = setting(
        None,
        low=1,
        metavar="N",
        title="Capacity",
        section=_LIMIT,
        unset="not used",
        examples=(50,),
        help="how many bins can be counted; instead of the two costs",
    )
    count_cost: float | None = setting(None, **_COUNT_COST)
    miss_cost: float | None = setting(None, **{**_MISS_COST, "unset": "1, or 0 where records have a unit_value"})
    error_rate: float | None = setting(
        None,
        low=0,
        high=1,
        exclusive=True,
        metavar="E",
        title="Error rate",
        section=_HOW,
        unset="what counting found so far, else 0.02",
        examples=(0.02,),
        help="share of the records that you believe wrong",
    )
    alpha: float = setting(
        0.05,
        low=0,
        high=1,
        exclusive=True,
        metavar="A",
        title="Alpha",
        section=_HOW,
        help="share of right records that may be called a mismatch",
    )
    blind: bool = setting(
        False,
        title="Blind",
        section=_HOW,
        help="a count sheet in place of the report, to enter counts on a phone: it shows neither records nor "
        "predictions; the lists show both",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.capacity is not None and self.count_cost is not None:
            raise ConfigError(
                f"capacity: must stand without count_cost, got {self.capacity} and {self.count_cost}. Choose one."
            )
        if self.count_cost is not None and self.miss_cost is None:
            raise ConfigError("count_cost: must stand with miss_cost, got it alone. Say what a missed error costs.")
        if self.confirmed is not None and self.records is None:
            raise ConfigError(f"confirmed: must stand with records, got {self.confirmed!r} alone. Name the records.")
        if self.contents is not None and self.records is None:
            raise ConfigError(f"contents: must stand with records, got {self.contents!r} alone. Name the records.")


@dataclass(frozen=True, kw_only=True)
class CostsConfig(Schema):
    """Costs of counting, from which an import of outcomes computes what the worklist saved."""

    count_cost: float | None = setting(None, **_COUNT_COST)
    miss_cost: float | None = setting(None, **_MISS_COST)


@dataclass(frozen=True, kw_only=True)
class OutcomesConfig(CostsConfig):
    """The form of the DAG `import_outcomes`."""

    file: str = setting(
        title="Counts",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.(csv|parquet)$",
        examples=("counts.csv",),
        help="name of a CSV or parquet file in the workspace's folder records, with the columns id, counted, when and, "
        "optionally, by",
    )
    worklist: str | None = setting(
        None,
        pattern=r"^[0-9a-f]{32}$",
        metavar="RUN",
        title="Reconciliation",
        unset="the last one",
        help="MLflow run of the reconciliation whose worklist was counted",
    )


@dataclass(frozen=True, kw_only=True)
class ApprovalConfig(Schema):
    """Approval of a promotion by a person: whether it is required, and how long the run waits for it."""

    require_approval: bool = setting(
        False,
        title="Require approval",
        section="Promotion",
        help="whether a person must approve, under Required Actions, before a version becomes champion",
    )
    approval_minutes: int = setting(
        1440,
        low=1,
        high=43200,
        title="Minutes to approve",
        section="Promotion",
        help="how many minutes the run waits for the approval; without an answer the version is rejected",
    )


@dataclass(frozen=True, kw_only=True)
class AirflowConfig(Schema):
    """Operators' settings for the DAGs, in section `[bincount]` of Airflow's configuration."""

    train_bin_counter: str = setting(
        "{}",
        help="values for the form of `train_bin_counter`; with a `source` it also runs on drift: "
        '`{"source": "s3://stock", "limit": 20000}`',
    )
    reconcile_inventory: str = setting(
        "{}",
        help="values for the form of `reconcile_inventory`, `cron` (UTC) and `deadline_minutes`, after which a run "
        "that has not succeeded is reported through the notifiers; with a `source` it also runs on a new champion: "
        '`{"source": "s3://stock", "records": "stock.csv", "capacity": 50, "cron": "0 5 * * *"}`',
    )
    notifiers: str = setting("[]", help="Airflow notifiers, each with its class and arguments (`dags/notices.py`)")
    extract_queue: str = setting("gpu", help="the Celery queue of the task `extract`")


@dataclass(frozen=True)
class GateLimits(Schema):
    """Limits that a model must meet to become champion."""

    groups: int = setting(20, low=2, help="fewest groups of test bins that are enough to judge a model")
    ece: float = setting(
        0.05, low=0, high=1, help="largest expected calibration error, unless so few bins show a larger one by chance"
    )
    rps_worse: float = setting(
        0.02,
        low=0,
        high=1,
        exclusive=True,
        help="margin by which the ranked probability score may exceed the champion's, in items: a model that is worse "
        "by the margin is accepted in at most 5 of 100 cases",
    )
    recall_fall: float = setting(
        0.10, low=0, high=1, help="fall of any count's recall below the champion's that is refused once it is shown"
    )
    shadow_photos: int = setting(
        0,
        low=0,
        help="fewest different photos that a version must have answered as shadow before it takes the champion's "
        "place; with shadow_log",
    )
    shadow_log: str | None = setting(
        None, unset="none", help="folder of `bincount serve --log --shadow` in which these photos are counted"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shadow_photos and self.shadow_log is None:
            raise ConfigError(
                f"shadow_photos: must stand with shadow_log, got {self.shadow_photos} alone. Name the log's folder."
            )
        if self.shadow_log is not None and not self.shadow_log.startswith("/"):
            raise ConfigError(f"shadow_log: must be an absolute path, got {self.shadow_log!r}.")


_PSI = {"low": 0, "exclusive": True}


@dataclass(frozen=True)
class DriftLimits(Schema):
    """The largest population stability index of each fact that is not yet a drift.

    0.25 is what credit scoring has called a significant shift for decades, 0.1
    a small one (Siddiqi, Credit Risk Scorecards, 2006); what it means on real
    bins stands in docs/log/reconcile.md. What few bins show by chance is allowed in
    any case: see `evaluate.drift.psi_by_chance`.
    """

    predicted: float = setting(0.25, help="of the counts that the model answers", **_PSI)
    recorded: float = setting(0.25, help="of the recorded counts", **_PSI)
    confidence: float = setting(0.25, help="of the probability of the answered count", **_PSI)
    width: float = setting(0.25, help="of the photos' width in pixels", **_PSI)
    height: float = setting(0.25, help="of the photos' height in pixels", **_PSI)
    brightness: float = setting(0.25, help="of the mean grey value", **_PSI)
    sharpness: float = setting(0.25, help="of the variance of the Laplacian, which blur lowers", **_PSI)
    features: float = setting(0.25, help="of the distance of the network's features from their mean", **_PSI)


_P_VALUE = {"low": 0, "high": 1}


@dataclass(frozen=True)
class DecayLimits(Schema):
    """The largest p-value of each fact of the outcomes of a worklist that is a decay of the model.

    Their sum bounds the share of imports with a false alarm: see `outcomes.decay.facts_of`. With 0 a fact is never
    a decay.
    """

    coverage: float = setting(0.003, help="of the share of prediction intervals that include the count", **_P_VALUE)
    brier: float = setting(0.003, help="of the Brier score of the probabilities that records are wrong", **_P_VALUE)
    found: float = setting(0.003, help="of the share of counted records that were wrong", **_P_VALUE)
