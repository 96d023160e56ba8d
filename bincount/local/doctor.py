"""`bincount doctor`: checks whether this machine has what `bincount up` and a training need."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bincount.local.stack import is_free
from bincount.settings import Settings

TIMEOUT_S = 20
NEEDED_GB = 5  # Airflow's and MLflow's databases, the sample, features of some thousand bins
_BUCKET = "https://aft-vbi-pds.s3.amazonaws.com/?list-type=2&max-keys=1"
# Keras' own name and address of ResNet50 without its top.
_WEIGHTS = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
_WEIGHTS_URL = f"https://storage.googleapis.com/tensorflow/keras-applications/resnet/{_WEIGHTS}"


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        check: Name of the check.
        ok: Whether it passed.
        needed: Whether the chain cannot run if it failed.
        found: The state that it found.
        do: What to do about a failure; "" if it passed.
    """

    check: str
    ok: bool
    needed: bool
    found: str
    do: str = ""


def check_machine(settings: Settings, ports: Mapping[str, int]) -> list[CheckResult]:
    """Runs all checks of this machine.

    Args:
        settings: Where the workspace is.
        ports: The ports of `bincount up`, by the names of `stack.PORT_FLAGS`.
    """
    checks: list[Callable[[], CheckResult]] = [
        check_python,
        lambda: check_disk(settings.workspace),
        *(lambda name=name, port=port: check_port(name, port) for name, port in ports.items()),
        check_weights,
        check_gpu,
        check_bucket,
    ]
    with ThreadPoolExecutor() as pool:  # two of them may take 20 s
        return list(pool.map(lambda check: check(), checks))


def check_python() -> CheckResult:
    """True if this Python on this system is supported."""
    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    ok = (3, 11) <= sys.version_info < (3, 13) and sys.platform == "linux" and platform.machine() == "x86_64"
    do = "" if ok else "Use Python 3.11 or 3.12 on Linux x86-64; elsewhere TensorFlow or the supervisor may fail."
    return CheckResult("python", ok, True, system, do)


def check_disk(workspace: Path) -> CheckResult:
    """True if the workspace's disk has free space."""
    existing = next(folder for folder in (workspace, *workspace.parents) if folder.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    ok = free_gb >= NEEDED_GB
    do = "" if ok else f"Free {NEEDED_GB} GB (`bincount clean` lists what is not needed), or move BINCOUNT_WORKSPACE."
    return CheckResult("disk", ok, True, f"{free_gb:.1f} GB free", do)


def check_port(name: str, port: int) -> CheckResult:
    """True if a port is free."""
    ok = is_free(port)
    do = "" if ok else f"Stop the process that uses it, or choose another: --{name}-port {port + 10}."
    return CheckResult(f"{name}-port", ok, True, f"{port} is {'free' if ok else 'taken'}", do)


def check_weights() -> CheckResult:
    """True if ImageNet weights are in Keras' cache or can be downloaded."""
    if (Path.home() / ".keras" / "models" / _WEIGHTS).is_file():
        return CheckResult("weights", True, False, "ImageNet weights of ResNet50 are in Keras' cache")
    problem = _problem_of(_WEIGHTS_URL)
    do = "Training uses EfficientNetLite0, whose weights are installed. For ResNet50, connect this machine."
    return CheckResult("weights", not problem, False, problem or "can be downloaded", do if problem else "")


def check_gpu() -> CheckResult:
    """True if the driver lists a GPU; TensorFlow, which takes long to import, is not used."""
    do = "Training runs on the CPU, which is fine for some thousand bins; for more, install the extra `gpu`."
    program = shutil.which("nvidia-smi")
    if program is None:
        return CheckResult("gpu", False, False, "no nvidia-smi", do)
    try:
        query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        gpus = subprocess.run(query, capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return CheckResult("gpu", False, False, f"nvidia-smi failed: {error}", do)
    return CheckResult("gpu", bool(gpus), False, gpus or "none", "" if gpus else do)


def check_bucket() -> CheckResult:
    """True if Amazon's bucket of bins can be reached."""
    problem = _problem_of(_BUCKET)
    do = "Use the sample bins or a folder: `bincount up --source sample`."
    return CheckResult("bucket", not problem, False, problem or "s3://aft-vbi-pds answers", do if problem else "")


def _problem_of(url: str) -> str:
    """The reason why an address does not answer within 20 s; "" if it does."""
    began = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310  # addresses of this module
            answer.read(1)
    except OSError as error:
        return f"no answer after {time.monotonic() - began:.0f} s: {error}"
    return ""
