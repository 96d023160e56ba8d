"""A registered version answers where bincount is not installed: it carries its code, and names what it needs."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bincount.learn.engine import note_of
from bincount.registry import register
from bincount.tracking import model_registry, runs
from tests.serving.versions import CODE, PHOTOS
from tests.stores import make_settings
from tests.tiny import write_model

UV = Path(sys.executable).with_name("uv")

ASK = """
import json, sys
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
photos = [open(path, "rb").read() for path in sys.argv[2:]]
answers = model.predict(pd.DataFrame({"image": photos, "recorded": [3] * len(photos)}))
loaded = {name.partition(".")[0] for name in sys.modules} & {"tensorflow", "keras", "airflow", "boto3"}
import bincount
print(json.dumps({"answers": answers, "loaded": sorted(loaded), "code": bincount.__file__}))
"""

IMPORTED = """
import runpy, sys
import mlflow.models, mlflow.pyfunc
sys.modules["openvino_telemetry"] = None
runpy.run_path(sys.argv[1])
import bincount.serving.bin_counter
print(*sorted(sys.modules[name].__file__ for name in sys.modules if name.partition(".")[0] == "bincount"), sep="\\n")
"""


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """A version as `register` packs it, copied to a folder of its own; and the answers that are expected."""
    place = tmp_path_factory.mktemp("version")
    settings = make_settings(place)
    run_id = runs.open_run(settings)
    folder = settings.run(run_id) / "model"
    write_model(folder, seed=1, sharpness=4.0)
    package = model_registry.Package(
        CODE, folder, register.requirements_of(folder), PHOTOS[0], {}, modules=register.MODULES
    )
    number = model_registry.register(settings, run_id, package, {}, "")
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    client = MlflowClient(settings.tracking_uri)
    uri = client.get_model_version_download_uri(model_registry.MODEL, number)
    packed = download_artifacts(artifact_uri=uri, dst_path=str(place / "packed"), tracking_uri=settings.tracking_uri)
    from bincount.learn.predictor import Predictor

    return Path(packed), Predictor(folder).predict(PHOTOS)


def test_a_version_carries_what_its_code_imports_and_no_more():
    done = subprocess.run([sys.executable, "-c", IMPORTED, CODE], capture_output=True, text=True, check=True)
    package = Path(register.__file__).parents[1]
    imported = {str(Path(line).relative_to(package)) for line in done.stdout.splitlines()}
    assert imported | {"serving/example.jpg"} == set(register.MODULES)


def test_what_it_needs_is_pinned_and_small(version):
    requirements = (version[0] / "requirements.txt").read_text().split()
    assert all("==" in line for line in requirements)
    assert {line.partition("==")[0] for line in requirements} == {
        "mlflow", "openvino", "numpy", "pandas", "pillow", "simplejpeg"
    }  # fmt: skip


def test_a_network_that_was_not_exported_needs_tensorflow(tmp_path):
    write_model(tmp_path / "model", seed=1)
    note_of(tmp_path / "model" / "model.keras").unlink()
    assert {"tensorflow", "keras"} < {line.partition("==")[0] for line in register.requirements_of(tmp_path / "model")}


def install(requirements, environment, *options):
    """Installs requirements into a new environment and gives its Python; skips where the index cannot be reached."""
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    python = environment / "bin" / "python"
    command = [UV, "pip", "install", "--quiet", "--python", python, "-r", requirements, *options]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if "error sending request" in installed.stderr:
        pytest.skip(f"the package index cannot be reached: {installed.stderr.strip().splitlines()[-1][:200]}")
    assert installed.returncode == 0, installed.stderr[-3000:]
    return python


def test_only_an_index_that_cannot_be_reached_is_a_reason_to_skip(tmp_path):
    (tmp_path / "requirements.txt").write_text("bincount-of-nobody==1.0\n")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/simple"
    with pytest.raises(pytest.skip.Exception, match="cannot be reached"):
        install(tmp_path / "requirements.txt", tmp_path / "one", "--default-index", url, "--no-cache")
    with pytest.raises(AssertionError, match="bincount-of-nobody was not found"):
        install(tmp_path / "requirements.txt", tmp_path / "other", "--no-index")


def test_it_answers_in_a_fresh_environment_of_its_own_requirements(version, tmp_path):
    packed, expected = version
    environment, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    python = install(packed / "requirements.txt", environment)
    shutil.copytree(packed, elsewhere / "model")
    photos = []
    for row, photo in enumerate(PHOTOS):
        photos.append(tmp_path / f"{row}.jpg")
        photos[-1].write_bytes(photo)
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [python, "-c", ASK, elsewhere / "model", *photos],
        capture_output=True, text=True, check=False, cwd=elsewhere, env=clean,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert Path(said["code"]).is_relative_to(elsewhere)
    assert said["loaded"] == []
    got = [list(answer["probabilities"].values()) for answer in said["answers"]]
    np.testing.assert_allclose(got, expected, atol=1e-4)
