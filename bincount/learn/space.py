"""What a search may choose from."""

from __future__ import annotations

from collections.abc import Sequence

import keras_tuner

BATCH_SIZES = (32, 64, 128, 256)
LEARNING_RATES = (1e-4, 1e-2)
UNITS = (32, 64, 128, 256, 512)

# What a grid tries of a range: with fewer steps the best lies between two of them, with more nobody waits for all.
_GRID_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
_GRID_SHARES = {"dropout": (0.2, 0.5, 0.7), "loss_mix": (0.0, 0.3, 0.6)}
_LARGEST = {"dropout": 0.7, "loss_mix": 0.7}


def space_of(kind: str, *, max_epochs: int, also: Sequence[str] = ()) -> keras_tuner.HyperParameters:
    """The hyperparameters of a search: learning rate, batch size, epochs and what is asked for besides.

    Args:
        kind: For "grid" every range becomes three to five steps.
        max_epochs: Most epochs of a trial; a fifth of them is the fewest.
        also: Of "dropout", "units" and "loss_mix".
    """
    space = keras_tuner.HyperParameters()
    fewest = max(1, max_epochs // 5)
    if kind == "grid":
        space.Choice("learning_rate", list(_GRID_RATES))
        space.Choice("batch_size", list(BATCH_SIZES))
        space.Choice("epochs", sorted({fewest, (fewest + max_epochs) // 2, max_epochs}))
    else:
        space.Float("learning_rate", *LEARNING_RATES, sampling="log")
        space.Choice("batch_size", list(BATCH_SIZES))
        space.Int("epochs", fewest, max_epochs)
    for name in also:
        if name == "units":
            space.Choice(name, list(UNITS))
        elif kind == "grid":
            space.Choice(name, list(_GRID_SHARES[name]))
        else:
            space.Float(name, 0.0, _LARGEST[name])
    return space
