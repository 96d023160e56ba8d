"""What lies in each bin of the sample, before any is rendered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bincount.core.errors import ConfigError
from bincount.core.groups import BLOCK
from bincount.local.products import Product, draw_product
from bincount.local.scene import Scene

_MOST_BINS = 99_999 // BLOCK
# Like the real counts (facts: 0 is rare, 3 the most frequent, a tail), flatter within 1..5.
_COUNTS = (0.03, 0.18, 0.17, 0.19, 0.19, 0.17, 0.04, 0.02, 0.01)
# Of the real runs of neighbouring ids that share a product, this share is 1, 2 and 3 long.
_RUNS = (0.42, 0.53, 0.05)


@dataclass(frozen=True)
class SampleBin:
    """One bin of the sample before it is rendered.

    Attributes:
        id: Its id, zero-padded to five digits.
        scene: What its photo shows.
        products: What lies in it, an entry per item.
    """

    id: str
    scene: Scene
    products: tuple[Product, ...]


def plan_bins(bins: int, *, seed: int) -> list[SampleBin]:
    """Draws what lies in each bin; a shorter plan is the beginning of a longer one.

    As in the real bucket, neighbouring ids often show one bin before and after one
    item moved: about 70 % of the ids have such a sibling beside them.

    Args:
        bins: How many, 1 to 4,999 (ids have five digits, and a block of 20 holds one bin's photos).
        seed: 0 or more; the same seed gives the same bins.

    Raises:
        ConfigError: If `bins` or `seed` is out of range.
    """
    if not 1 <= bins <= _MOST_BINS:
        raise ConfigError(f"bins: must be between 1 and {_MOST_BINS}, got {bins}. Ask for fewer.")
    if seed < 0:
        raise ConfigError(f"seed: must be 0 or more, got {seed}. Take another, such as 0.")
    planned: list[SampleBin] = []
    run = 0
    while len(planned) < bins:
        # A block a run: parts are drawn by blocks, and those of a small sample should come near their shares.
        planned.extend(_plan_run(np.random.default_rng([seed, run]), first=BLOCK * run + 1))
        run += 1
    return planned[:bins]


def _plan_run(rng: np.random.Generator, *, first: int) -> list[SampleBin]:
    count = int(rng.choice(len(_COUNTS), p=_COUNTS))
    # An empty bin shares no product with any other, so it stays alone.
    photos = 1 + int(rng.choice(len(_RUNS), p=_RUNS)) if count else 1
    products: list[Product] = []  # all that ever lie in the bin

    def add() -> int:
        again = products and rng.random() < 0.5  # several of one product
        products.append(products[rng.integers(len(products))] if again else draw_product(rng))
        return len(products) - 1

    shown = {add() for _ in range(count)}
    shots = [frozenset(shown)]
    while len(shots) < photos:
        taken = len(shown) > 1 and rng.random() < 0.5
        if taken:
            shown.remove(int(rng.choice(sorted(shown))))
        if not taken or rng.random() < 0.1:  # now and then one goes and another comes
            shown.add(add())
        shots.append(frozenset(shown))
    depth = rng.permutation(len(products))  # what is added need not be in front
    items = tuple((products[index].kind, products[index].look) for index in np.argsort(depth))
    bin_seed = int(rng.integers(2**63))
    return [
        SampleBin(
            f"{first + number:05d}",
            Scene(bin_seed, int(rng.integers(2**63)), items, tuple(sorted(int(depth[index]) for index in shot))),
            tuple(products[index] for index in sorted(shot)),
        )
        for number, shot in enumerate(shots)
    ]
