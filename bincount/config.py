"""The schema of settings: name, meaning, default and range of each.

The command line, the DAGs' forms and docs/settings.md are made from these
classes. Elsewhere stand the environment (`settings.py`), the model server's
limits (`serving/admission.py`) and flags of a single verb (`cli.py`). Only the standard library is
imported, so that reading a DAG file costs nothing.
"""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from bincount.counts import Counts
from bincount.errors import ConfigError

FITS = ("pad", "squash")
SEARCHES = ("random", "bayesian", "grid")
TUNABLE = ("dropout", "units", "loss_mix")
"""Hyperparameters that a search may vary besides learning rate, batch size and epochs."""

BUCKET_PATTERN = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.*'()/-]*)?$"
MODEL_PATTERN = r"^models:/bincount(/[0-9]+|@[A-Za-z0-9_-]+)$"
CHAMPION_URI = "models:/bincount@champion"

REQUIRED: Any = object()
"""The default of a setting that must be given."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting.

    Attributes:
        name: As a keyword argument, such as "image_px".
        type: bool, int, float or str.
        default: Its default; `REQUIRED` where a value must be given.
        nullable: Whether None is a value.
        help: What it means, as a sentence without its full stop.
        form_help: What a form says in place of `help`, where a form takes other values than the command line.
        title: What a form calls it.
        section: Under which heading a form shows it, folded; without one it is on top and in sight.
        low: Smallest value.
        high: Largest value.
        exclusive: Whether `low` and `high` themselves are no values.
        choices: The values of a text that takes few.
        pattern: Regular expression of a text, for forms.
        check: Raises ConfigError for a value that no other rule refuses.
        examples: Values that a form offers.
        metavar: What stands for the value in `--help`.
        unset: What None stands for, such as "all".
        env: The environment variable of an operator's setting.
    """

    name: str
    type: type = str
    default: Any = REQUIRED
    nullable: bool = False
    help: str = ""
    form_help: str = ""
    title: str = ""
    section: str = ""
    low: float | None = None
    high: float | None = None
    exclusive: bool = False
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    check: Callable[[Any], object] | None = None
    examples: tuple[Any, ...] = ()
    metavar: str | None = None
    unset: str = ""
    env: str = ""

    @property
    def flag(self) -> str:
        """The flag of the command line.

        Example:
            >>> Setting(name="image_px").flag
            '--image-px'
        """
        return f"--{self.name.replace('_', '-')}"

    @property
    def is_required(self) -> bool:
        """True if it has no default."""
        return self.default is REQUIRED

    @property
    def rule(self) -> str:
        """The values that it takes, in words.

        Example:
            >>> Setting(name="trials", type=int, low=1, high=1000).rule
            'a whole number from 1 to 1000'
        """
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        what = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[self.type]
        low, high = (
            None if end is None else f"{end:g}" if end < 1e6 else f"{end:.0f}" for end in (self.low, self.high)
        )
        if low is not None and high is not None:
            return f"{what} above {low} and below {high}" if self.exclusive else f"{what} from {low} to {high}"
        if low is not None:
            return f"{what} above {low}" if self.exclusive else f"{what} >= {low}"
        return what

    def validate(self, value: object) -> None:
        """Checks a value.

        Raises:
            ConfigError: If the setting takes no such value; the message names the setting.
        """
        if value is None and self.nullable:
            return
        if not self._is_typed(value) or not self._is_within(value) or (self.choices and value not in self.choices):
            raise ConfigError(f"{self.name}: must be {self.rule}, got {value!r}.")
        if self.type is str and not str(value).strip():
            raise ConfigError(f"{self.name}: must be a text that is not empty, got {value!r}.")
        if self.check is not None:
            self.check(value)

    def _is_typed(self, value: object) -> bool:
        if self.type is float:
            return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return isinstance(value, self.type) and (self.type is bool or not isinstance(value, bool))

    def _is_within(self, value: Any) -> bool:
        if self.type not in (int, float):
            return True
        if self.exclusive:
            return (self.low is None or value > self.low) and (self.high is None or value < self.high)
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def setting(default: Any = MISSING, **facts: Any) -> Any:
    """A dataclass field that is a setting; `facts` are attributes of `Setting`."""
    return field(default=default, metadata={"setting": facts})


def settings_of(schema: type) -> tuple[Setting, ...]:
    """The settings of a schema, in their order.

    Example:
        >>> [setting.flag for setting in settings_of(NetworkConfig)]
        ['--backbone', '--weights', '--fit', '--image-px', '--seed']
    """
    hints, found = get_type_hints(schema), []
    for each in fields(schema):
        hint, nullable = hints[each.name], False
        if get_origin(hint) in (Union, types.UnionType):
            (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
            nullable = True
        facts = each.metadata.get("setting")
        if facts is not None:
            default = REQUIRED if each.default is MISSING else each.default
            found.append(Setting(name=each.name, type=hint, default=default, nullable=nullable, **facts))
    return tuple(found)


def values_of(config: object, schema: type) -> dict[str, Any]:
    """The values of those settings of `config` that `schema` has too."""
    return {each.name: getattr(config, each.name) for each in settings_of(schema) if hasattr(config, each.name)}


class Schema:
    """A dataclass whose fields are settings; a value that a setting does not take is refused when it is made."""

    def __post_init__(self) -> None:
        for each in settings_of(type(self)):
            each.validate(getattr(self, each.name))


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
    "unset": "0 for a head, 0.3 for whole networks",
    "examples": (0, 0.3),
    "help": "share of soft neighbour labels in the loss",
}


_FINE_TUNE_EPOCHS = {
    "low": 0,
    "high": 1000,
    "metavar": "N",
    "title": "Fine-tuning epochs",
    "section": _EFFORT,
    "help": "epochs of training the whole network on photos; 0 leaves it as it is and trains a head on its features",
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
    miss_cost: float | None = setting(None, **_MISS_COST)
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
    """True if a person decides about a promotion."""

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

    groups: int = setting(20, low=2, help="fewest groups of test bins from which intervals are computed")
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


_S = TypeVar("_S")


def read_object(text: str, where: str) -> dict[str, Any]:
    """Reads an operator's setting: a JSON object; an empty text is an empty one.

    Raises:
        ConfigError: If it is something else.

    Example:
        >>> read_object('{"ece": 0.03}', "BINCOUNT_GATE")
        {'ece': 0.03}
    """
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f'{where}: must be a JSON object such as {{"NAME": VALUE}}, got {text[:200]!r}.')
    return found


def read_schema(text: str, schema: type[_S], where: str) -> _S:
    """Reads a JSON object with some of a schema's settings; the others keep their defaults.

    Raises:
        ConfigError: If it is no JSON object, names another setting or holds a value that its setting does not take.

    Example:
        >>> read_schema('{"ece": 0.03, "groups": 50}', GateLimits, "BINCOUNT_GATE")
        GateLimits(groups=50, ece=0.03, rps_worse=0.02, recall_fall=0.1, shadow_photos=0, shadow_log=None)
    """
    given, names = read_object(text, where), [each.name for each in settings_of(schema)]
    if unknown := sorted(set(given) - set(names)):
        raise ConfigError(f"{where}: must name settings of {', '.join(names)}, got {unknown[0]!r}.")
    try:
        return schema(**given)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def read_endpoints(text: str, where: str) -> Mapping[str, str]:
    """Reads a JSON object of the server's address by bucket.

    Raises:
        ConfigError: If it is something else; the message shows no password.
    """
    found = read_object(text, where)
    for bucket, endpoint in found.items():
        if not bucket or not isinstance(endpoint, str) or not endpoint.startswith(("http://", "https://")):
            raise ConfigError(
                f'{where}: must be such as {{"BUCKET": "http://HOST:PORT"}}, got another value of {bucket!r}.'
            )
    return found
