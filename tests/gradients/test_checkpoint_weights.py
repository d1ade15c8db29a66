"""Checkpoint weights: the mean learning rate of each epoch, normalised."""

import pytest

from tis_ray.errors import InputError
from tis_ray.gradients import learning_rate_weights


def test_golden_weights(golden):
    found = learning_rate_weights(golden.lr_weights["trainer_state"])
    assert found == pytest.approx(golden.lr_weights["weights"], abs=1e-9)
    assert sum(found) == pytest.approx(1, abs=1e-12)


def test_pairs_and_trainer_state_agree(golden):
    state = golden.lr_weights["trainer_state"]
    pairs = [(e["epoch"], e["learning_rate"]) for e in state["log_history"] if "loss" in e]
    assert learning_rate_weights(pairs) == learning_rate_weights(state)


def test_the_log_at_the_end_of_an_epoch_belongs_to_it():
    assert learning_rate_weights([(1.0, 3.0), (1.5, 1.0), (2.0, 1.0)]) == [0.75, 0.25]
    assert learning_rate_weights([(1.0 + 1e-9, 3.0), (2.0 - 1e-9, 1.0)]) == [0.75, 0.25]
    assert learning_rate_weights([(0, 2.0), (1.0, 4.0), (1.2, 1.0)]) == [0.75, 0.25]


@pytest.mark.parametrize(("epochs", "expected"), [(1, [1.0]), (2, [2 / 3, 1 / 3])])
def test_any_number_of_epochs(epochs, expected):
    pairs = [(epoch + 1.0, 2.0 - epoch) for epoch in range(epochs)]
    assert learning_rate_weights(pairs) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([], "no entry"),
        ({"log_history": [{"epoch": 1.0, "train_loss": 2.0}]}, "no entry"),
        ({"global_step": 3}, "log_history"),
        ([(1.0, 1e-5), (3.0, 1e-5)], "epoch 2"),
        ([(1.0, float("nan"))], "finite"),
        ([(1.0, -1e-5)], "not negative"),
        ([(1.0, 0.0), (2.0, 0.0)], "every logged learning rate is 0"),
    ],
)
def test_unusable_histories_are_refused(history, message):
    with pytest.raises(InputError, match=message):
        learning_rate_weights(history)
