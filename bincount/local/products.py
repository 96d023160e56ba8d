"""What the sample bins' records say: invented products, and metadata in the bucket's schema."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bincount.local.items import KINDS

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
    """One product that was never sold.

    Attributes:
        sku: The key that the books know it by.
        kind: Its shape, one of `items.KINDS`.
        look: Seed of its colour and print.
    """

    sku: str
    kind: str
    look: int


def draw_product(rng: np.random.Generator) -> Product:
    """Draws a product; its key tells it from all others, as an ASIN does."""
    kind = list(KINDS)[rng.integers(len(KINDS))]
    sku = "B0" + "".join(rng.choice(_LETTERS, 8))
    return Product(sku, kind, int(rng.integers(2**63)))


def metadata_of(products: Iterable[Product]) -> bytes:
    """Writes the metadata of a bin that holds these products, one entry per item.

    Returns:
        UTF-8 JSON with `BIN_FCSKU_DATA` and `EXPECTED_QUANTITY`, which is the sum
        of the quantities in it, formatted as in the bucket.
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
    # The real books lack a weight in 1 of 40 products.
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
