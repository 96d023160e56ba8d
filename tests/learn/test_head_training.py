"""Heads that learn what can be learned, the same way each time."""

import numpy as np
import pytest

from bincount.learn import head_training
from bincount.learn.feature_extraction import Examples
from bincount.learn.head_training import fit_head, mean_of_views, shuffled_parts
from bincount.learn.model import Hyperparameters
from bincount.learn.temperature import nll_of

HYPER = Hyperparameters(learning_rate=3e-3, batch_size=32, epochs=8)


def made(n, seed, width=12):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 5, n).astype(np.int32)
    features = rng.normal(size=(n, 2, width)) * 3 + 100
    features[:, :, 0] += 6 * classes[:, None]
    features[:, :, 1] = 7.0  # constant, as a dead unit is
    return Examples(features.astype(np.float16), classes)


@pytest.fixture(scope="module")
def fitted():
    told = []
    fit = fit_head(
        made(400, 0), made(100, 1), 5, HYPER, seed=0, on_epoch=lambda epoch, logs: told.append((epoch, logs))
    )
    return fit, told


def test_it_learns_what_the_features_say(fitted):
    fit, _ = fitted
    test = made(200, 2)
    logits = fit.head.predict_on_batch(mean_of_views(test.features))
    assert (logits.argmax(axis=1) == test.classes).mean() > 0.6
    assert nll_of(logits, test.classes) < 1.1


def test_the_curve_is_told_live_and_the_best_epoch_is_kept(fitted):
    fit, told = fitted
    assert [epoch for epoch, _ in told] == list(range(len(told)))
    assert set(told[0][1]) == {"loss", "nll", "val_nll"}
    best = min(logs["val_nll"] for _, logs in told)
    assert fit.val_nll == best
    assert told[fit.epochs - 1][1]["val_nll"] == best
    validation = made(100, 1)
    logits = fit.head.predict_on_batch(mean_of_views(validation.features))
    assert nll_of(logits, validation.classes) == pytest.approx(best, rel=1e-4)


def test_the_same_seed_gives_the_same_weights_and_zero_is_one(fitted):
    def weights(seed):
        return fit_head(made(400, 0), made(100, 1), 5, HYPER, seed=seed).head.get_weights()

    for mine, again in zip(fitted[0].head.get_weights(), weights(0), strict=True):
        np.testing.assert_array_equal(mine, again)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(weights(0), weights(1), strict=True) if a.size)


def test_soft_neighbours_are_what_it_learns_where_they_are_asked_for():
    from dataclasses import replace

    from bincount.learn.photo_batches import soft_targets

    train = made(400, 0)
    told = []
    hyper = replace(HYPER, loss_mix=1.0, dropout=0.0, epochs=20)
    head = fit_head(train, None, 5, hyper, seed=0, on_epoch=lambda epoch, logs: told.append(logs)).head
    logits = head.predict_on_batch(mean_of_views(train.features))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for count in range(5):  # it claims the neighbours' share, on average
        np.testing.assert_allclose(
            probabilities[train.classes == count].mean(0), soft_targets(5, 1.0)[count], atol=0.15
        )
    assert told[-1]["nll"] == pytest.approx(nll_of(logits, train.classes), abs=0.05)  # of the counts alone


def test_training_stops_when_validation_does_not_improve():
    rng = np.random.default_rng(0)
    noise = Examples(rng.normal(size=(60, 2, 40)).astype(np.float16), rng.integers(0, 5, 60).astype(np.int32))
    other = Examples(rng.normal(size=(60, 2, 40)).astype(np.float16), rng.integers(0, 5, 60).astype(np.int32))
    told = []
    hyper = Hyperparameters(learning_rate=1e-2, batch_size=32, epochs=100)
    fit = fit_head(noise, other, 5, hyper, seed=0, on_epoch=lambda epoch, logs: told.append(epoch))
    assert fit.epochs + 10 == len(told) < 100


def test_without_a_validation_part_it_trains_to_the_end():
    told = []
    fit = fit_head(made(100, 0), None, 5, HYPER, seed=0, on_epoch=lambda epoch, logs: told.append(set(logs)))
    assert fit.epochs == 8
    assert np.isnan(fit.val_nll)
    assert told == [{"loss", "nll"}] * 8


def test_what_does_not_fit_in_memory_is_learned_part_by_part(monkeypatch):
    whole = fit_head(made(400, 0), made(100, 1), 5, HYPER, seed=0)
    monkeypatch.setattr(head_training, "PART_ROWS", 512)
    in_parts = fit_head(made(400, 0), made(100, 1), 5, HYPER, seed=0)  # 800 examples: two views a bin
    assert in_parts.val_nll == pytest.approx(whole.val_nll, abs=0.05)
    for mine, other in zip(whole.head.layers[1].get_weights(), in_parts.head.layers[1].get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5)  # what standardises is the same


@pytest.mark.parametrize("examples", [1, 256, 1000, 70_000, 200_001])
def test_parts_hold_every_index_once_and_are_small(examples):
    parts = list(shuffled_parts(examples, np.random.default_rng(0)))
    assert sorted(np.concatenate(parts)) == list(range(examples))
    assert max(map(len, parts)) <= head_training.PART_ROWS
    assert len({tuple(part[:3]) for part in parts}) == len(parts)
