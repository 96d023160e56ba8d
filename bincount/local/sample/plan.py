"""The contents of the sample bins: products, counts and metadata, drawn before rendering."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bincount.dataset.groups import BLOCK
from bincount.errors import ConfigError
from bincount.local.sample.items import KINDS
from bincount.local.sample.scene import Scene

_MOST_BINS = 99_999 // BLOCK
# Frequencies of the counts 0 to 8: like the real ones (0 rare, 3 the mode, a tail), flatter from 1 to 5.
_COUNTS = (0.03, 0.18, 0.17, 0.19, 0.19, 0.17, 0.04, 0.02, 0.01)
# Fractions of the real runs of neighbouring ids with common products that have length 1, 2 and 3.
_RUNS = (0.42, 0.53, 0.05)


@dataclass(frozen=True)
class SampleBin:
    """One bin of the sample before it is rendered.

    Attributes:
        id: Its id, zero-padded to five digits.
        scene: What its photo shows.
        products: The product of each item.
    """

    id: str
    scene: Scene
    products: tuple[Product, ...]


def plan_bins(bins: int, *, seed: int) -> list[SampleBin]:
    """Draws the contents of each bin; a shorter plan is a prefix of a longer one.

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
        # One run a block of ids: the split is by blocks, and a small sample should come near its fractions.
        planned.extend(_plan_run(np.random.default_rng([seed, run]), first=BLOCK * run + 1))
        run += 1
    return planned[:bins]


def _plan_run(rng: np.random.Generator, *, first: int) -> list[SampleBin]:
    count = int(rng.choice(len(_COUNTS), p=_COUNTS))
    # An empty bin has no product in common with another, so its run has length 1.
    photos = 1 + int(rng.choice(len(_RUNS), p=_RUNS)) if count else 1
    products: list[Product] = []  # in any photo of the run

    def add() -> int:
        repeat = products and rng.random() < 0.5  # several items of one product
        products.append(products[rng.integers(len(products))] if repeat else draw_product(rng))
        return len(products) - 1

    shown = {add() for _ in range(count)}
    shots = [frozenset(shown)]
    while len(shots) < photos:
        taken = len(shown) > 1 and rng.random() < 0.5
        if taken:
            shown.remove(int(rng.choice(sorted(shown))))
        if not taken or rng.random() < 0.1:  # in some photos one item is replaced
            shown.add(add())
        shots.append(frozenset(shown))
    depth = rng.permutation(len(products))  # an added item may lie behind others
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


_BRANDS = ("Alderby", "Brightwell", "Corvane", "Dunmere", "Eastlow", "Fernholt", "Grenfield", "Halden & Roe", "Ilvaria")
_WORDS = ("Everyday", "Compact", "Classic", "Sturdy", "Gentle", "Little", "Original", "Travel", "Deluxe", "Quiet")
_NOUNS = {
    "box": ("Kettle", "Puzzle, 500 Pieces", "Desk Lamp", "Building Blocks", "Tea Sampler", "Phone Charger"),
    "book": ("Atlas of Rivers", "Cookbook for Two", "Garden Diary", "History of Bridges", "Bedtime Stories"),
    "bottle": ("Shampoo, 12 oz", "Olive Oil", "Vitamin C, 90 Tablets", "Dish Soap", "Body Lotion"),
    "tube": ("Yoga Mat", "Poster Tube", "Travel Mug", "Paint Roller", "Thermos Flask"),
    "disc": ("Clay Plate", "Tape Roll, 2 in", "Pet Food Tin", "Frisbee", "Shoe Polish"),
    "bag": ("Cotton Socks (Pack of 3)", "Café Filters", "Baby Bib", "Cable Ties", "Soft Toy Rabbit"),
}
_INCHES = {
    "box": (8.0, 6.0, 4.0),
    "book": (9.0, 6.0, 1.0),
    "bottle": (8.0, 3.0, 3.0),
    "tube": (12.0, 3.5, 3.5),
    "disc": (5.0, 5.0, 1.5),
    "bag": (9.0, 6.0, 1.0),
}
_LETTERS = np.array(list("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"))


@dataclass(frozen=True)
class Product:
    """An invented product.

    Attributes:
        sku: Its key in the inventory records.
        kind: Its shape, one of `items.KINDS`.
        look: Seed of its colour and print.
    """

    sku: str
    kind: str
    look: int


def draw_product(rng: np.random.Generator) -> Product:
    """Draws a product with a key like an ASIN."""
    kind = list(KINDS)[rng.integers(len(KINDS))]
    sku = "B0" + "".join(rng.choice(_LETTERS, 8))
    return Product(sku, kind, int(rng.integers(2**63)))


def metadata_of(products: Iterable[Product]) -> bytes:
    """The metadata of a bin with these products, one entry per item.

    Returns:
        UTF-8 JSON as in the bucket: `BIN_FCSKU_DATA`, and `EXPECTED_QUANTITY`, the sum of
        its quantities.
    """
    quantities = Counter(products)
    data = {product.sku: _entry_of(product, quantity) for product, quantity in quantities.items()}
    document = {"BIN_FCSKU_DATA": data, "EXPECTED_QUANTITY": quantities.total()}
    return json.dumps(document, indent=4, sort_keys=True, ensure_ascii=False).encode()


def _entry_of(product: Product, quantity: int) -> dict[str, object]:
    rng = np.random.default_rng(product.look)
    noun = _NOUNS[product.kind][rng.integers(len(_NOUNS[product.kind]))]
    name = f"{_BRANDS[rng.integers(len(_BRANDS))]} {_WORDS[rng.integers(len(_WORDS))]} {noun}"
    length, width, height = (round(side * rng.uniform(0.6, 1.5), 1) for side in _INCHES[product.kind])
    # 1 of 40 real products has no weight.
    pounds = None if rng.random() < 0.025 else {"unit": "pounds", "value": round(rng.uniform(0.05, 4), 2)}
    return {
        "asin": product.sku,
        "height": {"unit": "IN", "value": height},
        "length": {"unit": "IN", "value": length},
        "name": name,
        "normalizedName": name,
        "quantity": quantity,
        "weight": pounds,
        "width": {"unit": "IN", "value": width},
    }
