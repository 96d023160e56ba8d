"""Runs saved networks: on a processor with OpenVINO; on a GPU, or where OpenVINO cannot, with TensorFlow.

A network is saved twice, as Keras' file to train on and as OpenVINO's to answer
with. The exported one is used if it gives what Keras gives: in float32 and,
where the processor computes it natively, in bfloat16. Loading and running it
imports neither TensorFlow nor Keras.
"""

from __future__ import annotations

import logging
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bincount.errors import DataError
from bincount.files import is_whole_zip, read_json, sha256_of_file, write_json

if TYPE_CHECKING:
    import keras

FLOAT32, BFLOAT16 = "float32", "bfloat16"
WITHIN = {FLOAT32: 1e-4, BFLOAT16: 0.02}
"""Largest difference to Keras' output, of a probability or relative to the largest feature."""

_HINTS = {FLOAT32: "f32", BFLOAT16: "bf16"}
_FLAGS = {"avx512_bf16", "amx_bf16"}

_log = logging.getLogger(__name__)


class Network(Protocol):
    """A network that is ready to run.

    Attributes:
        precision: "float32" or "bfloat16".
        library: "openvino" or "tensorflow".
        batches: Batch sizes that it is asked with, each slow at its first time; at the last one a photo takes least.
    """

    precision: str
    library: str
    batches: tuple[int, ...]

    def __call__(self, photos: np.ndarray) -> list[np.ndarray]:
        """The outputs for photos (B, H, W, 3) uint8, each (B, ...) float32."""


class OpenVinoNetwork:
    """A network that was exported to OpenVINO's format."""

    library = "openvino"
    # A photo of a batch of 32 takes up to three times as long (`python -m benchmarks.engine`).
    batches: tuple[int, ...] = (1, 8)

    def __init__(self, path: Path, precision: str) -> None:
        """Compiles `path`, an .xml file with its .bin beside it.

        Raises:
            DataError: If a file is absent or damaged.
        """
        self.precision = precision
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
        try:
            self._compiled = _openvino().Core().compile_model(str(path), "CPU", hints)
        except RuntimeError as error:
            raise DataError(f"{path.name}: must be an exported network, got {str(error)[:200]!r}.") from None
        self._request = self._compiled.create_infer_request()
        self._lock = threading.Lock()  # a request holds one input at a time

    def __call__(self, photos: np.ndarray) -> list[np.ndarray]:
        """The outputs for photos (B, H, W, 3) uint8."""
        with self._lock:
            outputs = self._request.infer({0: np.ascontiguousarray(photos)})
            return [np.array(outputs[output], np.float32) for output in self._compiled.outputs]


class KerasNetwork:
    """A network as Keras saved it, on a GPU if there is one, otherwise on a processor."""

    library, precision = "tensorflow", FLOAT32
    batches: tuple[int, ...] = (1, 8, 32)

    def __init__(self, model: keras.Model) -> None:
        import tensorflow as tf

        self._graph = tf.function(lambda photos: model(photos, training=False), reduce_retracing=True)

    def __call__(self, photos: np.ndarray) -> list[np.ndarray]:
        """The outputs for photos (B, H, W, 3) uint8."""
        outputs = self._graph(photos)
        return [np.asarray(each, np.float32) for each in (outputs if isinstance(outputs, list | tuple) else [outputs])]


def open_network(path: Path, *, outputs: tuple[str, ...] = (), precision: str | None = None) -> Network:
    """Opens a saved network.

    Args:
        path: Its Keras file; the exported one is beside it.
        outputs: Names of layers whose output Keras' network gives after its own. The exported one has them already.
        precision: "float32" or "bfloat16"; None for the fastest that was checked and that the processor computes.

    Raises:
        DataError: If it is absent or damaged, or the exported one is not what was saved.
    """
    usable = checked_precisions(path)
    if FLOAT32 in usable and path.with_suffix(".xml").is_file() and not (has_gpu() and find_spec("tensorflow")):
        if altered := _altered_files(path):
            raise DataError(
                f"{altered[0]}: must be an exported network as it was saved, got none or other bytes. "
                "Run `bincount train` again, or restore MLflow's artifacts from a backup."
            )
        fastest = BFLOAT16 if BFLOAT16 in usable and has_bfloat16() else FLOAT32
        return OpenVinoNetwork(path.with_suffix(".xml"), precision or fastest)
    return KerasNetwork(_with_outputs(load_keras(path), outputs))


def load_keras(path: Path) -> keras.Model:
    """Loads a saved network in Keras' safe mode.

    Raises:
        DataError: If it is absent or damaged.
    """
    import keras

    if not is_whole_zip(path):
        raise DataError(f"{path.name}: must be the network that was saved there, got a damaged file or none.")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path.name}: must be a network that Keras loads, got {str(error)[:200]!r}.") from error


def save_network(
    model: keras.Model, path: Path, photos: np.ndarray, *, outputs: tuple[str, ...] = (), scale: float | None = None
) -> dict[str, Any]:
    """Saves a network for Keras and, if it gives the same there, for OpenVINO.

    Args:
        model: Photos (B, px, px, 3) uint8 to (B, ...) float32.
        path: The Keras file; the exported network and a note of the check are written beside it.
        photos: (N, px, px, 3) uint8 to check the exported network with, N >= 1.
        outputs: Names of layers whose output the exported network gives after the network's own.
        scale: What differences are relative to; None for the largest output. Probabilities: 1.

    Returns:
        The note: `differences`, the largest difference to Keras' first output by precision; `files`, the SHA-256 of
        each exported file; and `problem` if the network cannot be exported.
    """
    model.save(path)
    exported = _with_outputs(model, outputs)
    try:
        _openvino()
        exported.export(str(path.with_suffix(".xml")), format="openvino", verbose=False)
        found, wanted = len(OpenVinoNetwork(path.with_suffix(".xml"), FLOAT32)(photos)), len(exported.outputs)
        if found != wanted:  # Keras exports the outputs of a nested network that nothing uses too
            raise ValueError(f"exported it has {found} outputs, where the network has {wanted}")
    except Exception as error:  # for an operation without a counterpart Keras and OpenVINO raise many types
        problem = f"{type(error).__name__}: {str(error)[:200]}"
        note: dict[str, Any] = {"problem": problem, "differences": {}, "files": {}}
        for suffix in (".xml", ".bin"):
            path.with_suffix(suffix).unlink(missing_ok=True)
    else:
        expected = KerasNetwork(exported)(photos)[0]
        within = scale or float(abs(expected).max()) or 1.0
        differences = {}
        for precision in (FLOAT32, BFLOAT16) if has_bfloat16() else (FLOAT32,):
            answers = OpenVinoNetwork(path.with_suffix(".xml"), precision)(photos)[0]
            same = scale is None or np.array_equal(answers.argmax(axis=1), expected.argmax(axis=1))
            differences[precision] = float(abs(answers - expected).max()) / within if same else 1.0
        files = (path.with_suffix(".xml"), path.with_suffix(".bin"))
        note = {"differences": differences, "files": {file.name: sha256_of_file(file) for file in files}}
    write_json(note_of(path), note)
    _report(path, note)
    return note


def checked_precisions(path: Path) -> list[str]:
    """The precisions in which the exported network of a Keras file gives what Keras gives."""
    return _precisions_of(read_json(note_of(path)) or {})


def _precisions_of(note: dict[str, Any]) -> list[str]:
    differences = note.get("differences", {})
    return [each for each in (FLOAT32, BFLOAT16) if differences.get(each, 1.0) <= WITHIN[each]]


def engine_of(note: dict[str, Any]) -> str:
    """The engine that answers, by the note of `save_network`: "OpenVINO on processors, float32", or why TensorFlow."""
    if "problem" in note:
        return f"TensorFlow: it could not be exported ({note['problem']})"
    if FLOAT32 not in (precisions := _precisions_of(note)):
        return f"TensorFlow: exported it differs by {note['differences'][FLOAT32]:.2g}"
    return f"OpenVINO on processors, {' and '.join(precisions)}"


def is_whole_network(path: Path) -> bool:
    """True if a Keras file and the exported network beside it are what `save_network` wrote."""
    return read_json(note_of(path)) is not None and is_whole_zip(path) and not _altered_files(path)


def _altered_files(path: Path) -> list[str]:
    """Names of the files of an exported network that are absent or not what `save_network` wrote."""
    saved = (read_json(note_of(path)) or {}).get("files", {})
    return [
        name
        for name, digest in saved.items()
        if not (file := path.with_name(name)).is_file() or sha256_of_file(file) != digest
    ]


def note_of(path: Path) -> Path:
    """The note of the check, beside the network's Keras file."""
    return path.with_suffix(".engine.json")


def files_of(path: Path) -> list[Path]:
    """Every file of a saved network that is there."""
    every = (path, path.with_suffix(".xml"), path.with_suffix(".bin"), note_of(path))
    return [file for file in every if file.is_file()]


def has_bfloat16() -> bool:
    """True if this machine's processor multiplies bfloat16 natively."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return bool(_FLAGS.intersection(flags))


def has_gpu() -> bool:
    """True if this machine has an NVIDIA GPU for TensorFlow; loads no library."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _openvino() -> Any:
    # Its conversion tools report their use to the vendor through this package; None keeps it from being imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _with_outputs(model: keras.Model, names: tuple[str, ...]) -> keras.Model:
    import keras

    more = [layer.output for layer in model.layers if layer.name in names]
    return keras.Model(model.input, [model.output, *more]) if more else model


def _report(path: Path, note: dict[str, Any]) -> None:
    if "problem" in note:
        _log.warning("%s: OpenVINO cannot run this network, so TensorFlow does (%s)", path.name, note["problem"])
        return
    for precision, difference in note["differences"].items():
        verdict = "used" if difference <= WITHIN[precision] else "not used"
        _log.info("%s: exported network in %s differs by %.2g: %s", path.name, precision, difference, verdict)
