"""Training whole networks: they learn, and go on after a kill as if nothing had happened."""

import re
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from bincount.learn.network_training import Recipe, fit_network, logits_of
from bincount.learn.photo_batches import Photos
from tests.learn.bins import write_bins
from tests.learn.networks import ALL, RECIPE, network_of


@pytest.fixture
def parts(manifest, shard_files):
    paths = list(shard_files.values())
    return {
        part: Photos(manifest, [part], paths, manifest.counts, image_px=32, fit="pad")
        for part in ("train", "validation")
    }


def run(parts, folder, **changed):
    """Trains; gives the network, what came of it, and the curve."""
    arguments = {"recipe": RECIPE, "seed": 0, **changed}
    network, curve = network_of(), []
    fitted = fit_network(
        network,
        parts["train"],
        parts["validation"],
        arguments.pop("recipe"),
        scored=ALL,
        folder=folder,
        on_epoch=lambda epoch, told: curve.append((epoch, told["loss"], told["val_nll"])),
        **arguments,
    )
    return network, fitted, curve


@pytest.fixture(scope="module")
def undisturbed(manifest, shard_files, tmp_path_factory):
    paths = list(shard_files.values())
    parts = {
        part: Photos(manifest, [part], paths, manifest.counts, image_px=32, fit="pad")
        for part in ("train", "validation")
    }
    return run(parts, tmp_path_factory.mktemp("undisturbed"))


def assert_same(one, other):
    assert one[2] == other[2]
    assert one[1] == other[1]
    for mine, theirs in zip(one[0].get_weights(), other[0].get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_it_learns_and_keeps_its_best_epoch(undisturbed, parts):
    network, fitted, curve = undisturbed
    assert [epoch for epoch, _, _ in curve] == [0, 1, 2, 3]
    assert curve[-1][1] < curve[0][1]
    assert fitted.val_nll == min(nll for _, _, nll in curve) == curve[fitted.epochs - 1][2]
    logits = logits_of(network, parts["validation"]) / fitted.temperature
    shifted = logits - logits.max(axis=1, keepdims=True)
    nll = -(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))[
        np.arange(len(logits)), parts["validation"].classes
    ].mean()
    assert nll == pytest.approx(fitted.val_nll, rel=1e-5)


def test_a_finished_training_is_read_not_run(undisturbed, parts, tmp_path):
    run(parts, tmp_path)
    (state,) = tmp_path.iterdir()
    written = state.stat().st_mtime_ns
    assert_same(run(parts, tmp_path), undisturbed)
    assert state.stat().st_mtime_ns == written


def test_an_epoch_that_broke_off_is_run_again_to_the_bit_and_alone_counts_as_trained(undisturbed, parts, tmp_path):
    class Killed(BaseException):
        pass

    def stop(epoch, told):
        if epoch == 1:
            raise Killed

    with pytest.raises(Killed):
        fit_network(
            network_of(),
            parts["train"],
            parts["validation"],
            RECIPE,
            scored=ALL,
            folder=tmp_path,
            seed=0,
            on_epoch=stop,
        )
    (state,), written = tmp_path.iterdir(), []
    first = state.stat().st_mtime_ns
    assert_same(run(parts, tmp_path, on_state=lambda: written.append(state.stat().st_mtime_ns)), undisturbed)
    assert len({first, *written}) == 1 + RECIPE.epochs - 2, "the two epochs before the kill are read, not trained"
    assert len(written) == RECIPE.epochs - 2


@pytest.mark.parametrize("kept", [0.5, *(pytest.param(kept, marks=pytest.mark.slow) for kept in (0, 0.99))])
def test_a_state_that_was_cut_is_set_aside_and_the_training_starts_again(undisturbed, parts, tmp_path, kept):
    run(parts, tmp_path)
    (state,) = tmp_path.iterdir()
    content = state.read_bytes()
    state.write_bytes(content[: int(kept * len(content))])
    assert_same(run(parts, tmp_path), undisturbed)
    assert (tmp_path / f"{state.name}.damaged").exists()


@pytest.mark.parametrize(
    "changed", [{"recipe": Recipe(1e-3, 16, 4)}, pytest.param({"seed": 1}, marks=pytest.mark.slow)]
)
def test_another_recipe_or_seed_starts_afresh(undisturbed, parts, tmp_path, changed):
    run(parts, tmp_path)
    assert run(parts, tmp_path, **changed)[2] != undisturbed[2]


def test_the_batches_of_an_epoch_are_counted(parts, tmp_path, caplog):
    caplog.set_level("INFO")
    run(parts, tmp_path, recipe=replace(RECIPE, epochs=1))
    (last,) = [line for line in caplog.messages if line.startswith("epoch 1 of 1, batches: ")][-1:]
    done, total = re.fullmatch(r"epoch 1 of 1, batches: (\d+) of (\d+), 0 s left", last).groups()
    assert done == total == str(len(parts["train"]) // RECIPE.batch_size)


KILLED = """
import sys
from pathlib import Path
from bincount.dataset.manifest import Manifest
from bincount.learn.network_training import Recipe, fit_network
from bincount.learn.photo_batches import Photos
from tests.learn.networks import ALL, RECIPE, network_of
workspace, digest, folder = map(Path, sys.argv[1:])
manifest = Manifest.read(workspace / "manifests", digest.name)
paths = [workspace / "shards" / shard.name for shard in manifest.shards]
train, validation = (
    Photos(manifest, [part], paths, manifest.counts, image_px=32, fit="pad") for part in ("train", "validation")
)
say = lambda epoch, told: print(epoch, flush=True)
fit_network(network_of(), train, validation, RECIPE, scored=ALL, folder=folder, seed=0, on_epoch=say)
"""


def test_kill_9_and_again_gives_the_same_curve(undisturbed, parts, workspace, tmp_path):
    digest = write_bins(workspace)
    arguments = [str(workspace), digest, str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, text=True, cwd=sys.path[0]
    ) as process:
        assert process.stdout.readline() == "0\n"
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGKILL)
    assert_same(run(parts, tmp_path), undisturbed)
