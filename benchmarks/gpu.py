"""Extraction and fine-tuning on a GPU: photos a second by precision, with and without XLA.

    python -m benchmarks.gpu [--batches 50] [--repeats 3] [--image-px 224] [--quick] [--json FILE]

ResNet50 on photos that are ready in memory, uint8 across the bus, in batches of 128: forward alone, as extraction runs
it, and training as fine-tuning does, batch norm frozen. Without a GPU it reports that it was not run; `--anyway` runs
it on the processor. Extraction from shards against the bare network: `benchmarks.extraction`, on a GPU too.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure import Ratio, machine, parser_of, publish, spread

if TYPE_CHECKING:
    import keras

_BATCH = 128
KINDS, PRECISIONS = ("extraction", "fine-tuning"), ("float32", "bfloat16")


def network_of(image_px: int) -> keras.Model:
    """Uint8 photos to logits: all of ResNet50 with random weights, batch norm frozen, all else trained."""
    import keras

    from bincount.learn.model import build_plain_head, join

    shape = (image_px, image_px, 3)
    photos = keras.Input(shape, dtype="uint8")
    network = keras.applications.ResNet50(include_top=False, weights=None, pooling="avg", input_shape=shape)
    for layer in network.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(photos)
    backbone = keras.Model(photos, network(scaled), name="backbone")
    return join(backbone, build_plain_head(backbone.output.shape[1], 5))


def step_of(kind: str, precision: str, *, xla: bool, image_px: int) -> Callable[[], object]:
    """The function that is timed: one batch, forward or a training step."""
    import keras
    import tensorflow as tf

    from bincount.learn.devices import mixed_precision

    keras.utils.set_random_seed(0)
    network = network_of(image_px)
    backbone = network.get_layer("backbone")
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 256, (_BATCH, image_px, image_px, 3), np.uint8)
    targets = tf.one_hot(rng.integers(0, 5, _BATCH), 5)
    mixed = mixed_precision(backbone) if precision == "bfloat16" else contextlib.nullcontext()
    adam, loss_of = keras.optimizers.AdamW(1e-4), keras.losses.CategoricalCrossentropy(from_logits=True)
    adam.build(network.trainable_variables)

    @tf.function(jit_compile=xla)
    def forward(batch: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(backbone(batch, training=False), tf.float32))

    @tf.function(jit_compile=xla)
    def learn(batch: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(targets, network(batch, training=True))
        adam.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    step = forward if kind == "extraction" else learn
    with mixed:
        step(tf.constant(photos))  # traced here, in this precision
    # From the host's memory each time, as photos come.
    return lambda: step(tf.constant(photos)).numpy()


def rate_of(step: Callable[[], object], batches: int) -> float:
    """Photos a second."""
    began = time.monotonic()
    for _ in range(batches):
        step()
    return batches * _BATCH / (time.monotonic() - began)


def measure(batches: int, repeats: int, image_px: int) -> list[dict]:
    """Every kind, precision and compiler, in turns."""
    results = []
    for kind, precision, xla in itertools.product(KINDS, PRECISIONS, (False, True)):
        step = step_of(kind, precision, xla=xla, image_px=image_px)
        rate_of(step, 3)
        rates = [rate_of(step, batches) for _ in range(repeats)]
        results.append({"kind": kind, "precision": precision, "xla": xla, "photos_per_s": rates})
        print(f"  {kind:12} {precision:9} XLA {xla!s:5} {spread(rates, ',.0f')} photos/s", flush=True)
    return results


def ratios_of(results: list[dict]) -> list[Ratio]:
    """The fastest and the slowest way of each kind."""
    ratios = []
    for kind in KINDS:
        best = max((one for one in results if one["kind"] == kind), key=lambda one: max(one["photos_per_s"]))
        plain = next(one for one in results if (one["kind"], one["precision"], one["xla"]) == (kind, "float32", False))
        how = f"{best['precision']}, XLA {'on' if best['xla'] else 'off'}"
        pairs = zip(best["photos_per_s"], plain["photos_per_s"], strict=True)
        ratios.append(Ratio.of(f"{kind}: {how} against float32 without XLA", [mine / other for mine, other in pairs]))
    return ratios


def report(results: list[dict], image_px: int) -> str:
    """Photos a second of each."""
    lines = [f"ResNet50, {image_px} px, batches of {_BATCH}, one view a photo.", ""]
    lines += ["| what | precision | XLA | photos/s |", "|---|---|---|---|"]
    for one in results:
        cells = (one["kind"], one["precision"], "on" if one["xla"] else "off", spread(one["photos_per_s"], ",.0f"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--batches", type=int, default=50, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--image-px", type=int, default=224)
    parser.add_argument("--anyway", action="store_true", help="without a GPU too")
    options = parser.parse_args()
    here = machine()
    if not here["gpu"] and not options.anyway:
        return publish(options, [], "**Not run**: this machine has no GPU.", [], here)
    if options.quick:
        options.batches, options.repeats = 5, 1
    results = measure(options.batches, options.repeats, options.image_px)
    return publish(options, ratios_of(results), report(results, options.image_px), results, here)


if __name__ == "__main__":
    main()
