"""Small bins on disk: real JPEGs, a product or two each."""

import io
import json

import numpy as np
from PIL import Image


def photo(seed=0, size=(32, 24)):
    """A small JPEG; another seed, other pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def metadata(recorded, skus=("A",), side=None):
    """Metadata in the bucket's schema: all items are of the first product, cubes of `side` inches if that is given."""
    quantities = [recorded, *[0] * (len(skus) - 1)]
    size = {name: {"unit": "IN", "value": side} for name in ("length", "width", "height")} if side else {}
    size |= {"weight": {"unit": "pounds", "value": 0.5}} if side else {}
    products = (
        {sku: {"quantity": quantity} | size for sku, quantity in zip(skus, quantities, strict=True)} if skus else {}
    )
    return json.dumps({"BIN_FCSKU_DATA": products, "EXPECTED_QUANTITY": recorded}).encode()


def write_bin(folder, bin_id, *, recorded=None, skus=None, image=None, document=None):
    """Writes one bin; what is not given is made from the id."""
    number = sum(map(ord, bin_id))
    recorded = 1 + number % 5 if recorded is None else recorded
    for name in ("bin-images", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    image = photo(number) if image is None else image
    document = metadata(recorded, (f"S{bin_id}",) if skus is None else skus) if document is None else document
    (folder / "bin-images" / f"{bin_id}.jpg").write_bytes(image)
    (folder / "metadata" / f"{bin_id}.json").write_bytes(document)


def write_bins(folder, bins=400, step=5):
    """Writes padded bins, every `step`-th id, so that all parts hold some and none are neighbours."""
    for number in range(0, bins * step, step):
        write_bin(folder, f"{number:05d}")
    return folder


def undecodable(jpeg):
    """A JPEG less its quantisation tables: all that a header needs, and nothing to decode it by."""
    kept, at = jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        kept += b"" if jpeg[at + 1] == 0xDB else jpeg[at:end]
        at = end
    return kept + jpeg[at:]


def saved(size=(64, 48), **options):
    """A file of noise; `kind` is its format and `mode` its pixels, the rest is for Pillow."""
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    mode = options.pop("mode", "RGB")
    image = Image.fromarray(pixels)
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    image.save(file, options.pop("kind", "JPEG"), **options)
    return file.getvalue()


def resized(data, width, height):
    """The same file with another size written in its frame."""
    at = next(data.index(bytes([0xFF, marker])) for marker in (0xC0, 0xC2) if bytes([0xFF, marker]) in data)
    return data[: at + 5] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 9 :]
