"""What one run of the chain is asked to do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bincount.core.counts import Counts
from bincount.core.errors import ConfigError

FITS = ("pad", "squash")
SEARCHES = ("random", "bayesian", "grid")
TUNABLE = ("dropout", "units", "loss_mix")
"""What a search may choose besides learning rate, batch size and epochs."""


@dataclass(frozen=True)
class ChainConfig:
    """The chain's parameters: `bincount run`'s flags, and the DAG's form but for how many tasks share the work.

    Attributes:
        source: Where the bins are: "s3://BUCKET" or a folder in the bucket's layout.
        limit: How many bins to draw, None for all of them.
        counts: Which counts to tell apart, such as "1-5" or "0-5+".
        backbone: Name of a Keras application, such as "ResNet50".
        weights: "auto", "imagenet", "none" or the path of a weights file.
        fit: How a photo becomes square: "pad" keeps its aspect, "squash" does not.
        image_px: Side of the square, 32 to 1024 pixels.
        trials: Number of hyperparameter sets to try, 1 to 1000.
        max_epochs: Most epochs of a trial, 1 to 1000.
        search: How trials are chosen: "random", "bayesian" or "grid".
        tune_also: What to search besides, such as "dropout,units,loss_mix"; None for nothing.
        loss_mix: Share of soft neighbour labels in the loss, 0 to 1; None: 0 for a head, 0.3 for whole networks.
        fine_tune_epochs: Epochs of training the whole network afterwards, 0 to 1000.
        seed: What every random choice is drawn from, 0 to 2**31 - 1.

    Raises:
        ConfigError: If a value is outside its range; the message names it.
    """

    source: str
    limit: int | None = None
    counts: str = "1-5"
    backbone: str = "ResNet50"
    weights: str = "auto"
    fit: str = "pad"
    image_px: int = 224
    trials: int = 5
    max_epochs: int = 50
    search: str = "random"
    tune_also: str | None = None
    loss_mix: float | None = None
    fine_tune_epochs: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        Counts.parse(self.counts)
        if not self.source.strip():
            raise ConfigError(f"source: must be s3://BUCKET or a folder, got {self.source!r}. Name where the bins are.")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", self.backbone):
            raise ConfigError(
                f"backbone: must be the name of a Keras application, got {self.backbone!r}. Try ResNet50."
            )
        if not self.weights.strip():
            raise ConfigError(f"weights: must be auto, imagenet, none or a file, got {self.weights!r}. Try auto.")
        if self.fit not in FITS:
            raise ConfigError(f"fit: must be one of {', '.join(FITS)}, got {self.fit!r}. Try pad.")
        if self.search not in SEARCHES:
            raise ConfigError(f"search: must be one of {', '.join(SEARCHES)}, got {self.search!r}. Try random.")
        parse_tunable(self.tune_also)
        check_loss_mix(self.loss_mix)
        if self.limit is not None:
            check_range("limit", self.limit, 1, 10**9)
        check_range("image_px", self.image_px, 32, 1024)
        check_range("trials", self.trials, 1, 1000)
        check_range("max_epochs", self.max_epochs, 1, 1000)
        check_range("fine_tune_epochs", self.fine_tune_epochs, 0, 1000)
        check_range("seed", self.seed, 0, 2**31 - 1)


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
        raise ConfigError(
            f"tune_also: must be some of {', '.join(TUNABLE)}, each once, got {text!r}. Try --tune-also dropout,units."
        )
    return names


def check_loss_mix(loss_mix: float | None) -> None:
    """Checks a share of soft labels.

    Raises:
        ConfigError: If it is not within 0 to 1.
    """
    if loss_mix is not None and not 0 <= loss_mix <= 1:
        raise ConfigError(f"loss_mix: must be a share from 0 to 1, got {loss_mix!r}. Try 0.3.")


def check_range(name: str, value: int, low: int, high: int) -> None:
    """Checks that a value is a whole number from `low` to `high`.

    Raises:
        ConfigError: If it is not; the message calls it `name`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name}: must be a whole number from {low} to {high}, got {value!r}. Change {name}.")
