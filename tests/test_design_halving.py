"""Successive halving of designs, in this process and by Ray."""

import jax
import pytest

import odernn
from odernn import Requirements, design, tasks
from odernn.train import Config, build_model
from odernn.train._loop import Trainer

CONFIG = Config(task="adding", batch_size=16)


@pytest.fixture(scope="module")
def task():
    return tasks.adding(length=8, train_size=64)


@pytest.fixture(scope="module")
def found(task):
    wanted = Requirements.of_task(task, parameters=60)
    return design(wanted, cells=["rnn", "gru", "scornn"])


@pytest.fixture(scope="module")
def halved(found, task):
    return found.halved(task, CONFIG, keep=3, epochs=3, rates=(0.03, 1e-6))


def test_every_trial_is_kept_and_the_better_ones_are_trained_longer(halved):
    assert len(halved.trials) == 6
    epochs = {(t.name, t.learning_rate): t.epochs for t in halved.trials}
    # The first ones have nobody to be compared with; later ones that learn next to nothing stop.
    assert sorted(epochs.values())[0] == 1 and sorted(epochs.values())[-1] == 3
    assert sum(epochs[t.name, t.learning_rate] == 1 for t in halved.trials[2:]) >= 2
    assert set(halved.rates.values()) == {0.03}


def test_the_order_is_that_of_the_trials(found, halved):
    assert {c.name for c in halved.candidates} == {c.name for c in found.candidates}
    best = {
        c.name: min(t.metric for t in halved.trials if t.name == c.name) for c in found.candidates
    }
    assert [c.name for c in halved.candidates] == sorted(best, key=best.__getitem__)


def test_a_trial_is_a_training_of_the_design(halved, task):
    one = next(t for t in halved.trials if t.epochs == 1)
    c = next(c for c in halved.candidates if c.name == one.name)
    config = c.config(task="adding", batch_size=16, epochs=3, learning_rate=one.learning_rate)
    model = build_model(config.settled(one_label=False), task, jax.random.key(0))
    assert odernn.parameter_count(model) == c.parameters


def test_failed_trials_are_told(found, task, monkeypatch):
    def fail(*_):
        raise odernn.RunFailed("the loss is not finite at step 3")

    monkeypatch.setattr(Trainer, "run", fail)
    with pytest.raises(odernn.InputError, match="no short training .* not finite at step 3"):
        found.halved(task, CONFIG, keep=1, epochs=2, rates=(0.1,))


def test_other_data_are_refused(found):
    with pytest.raises(odernn.InputError, match="has 1 inputs, the design is for 2"):
        found.halved(tasks.get("digits"))


@pytest.mark.parametrize("backend, extra", [("optuna", "design"), ("ray", "cluster")])
def test_a_backend_that_is_not_there_is_named(found, task, backend, extra, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(odernn.InputError, match=rf"pip install 'odernn\[{extra}\]'"):
        found.halved(task, backend=backend)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own, of its processes and files
def test_ray_tries_the_same_in_processes_of_its_own(found, task, capsys):
    again = found.halved(task, CONFIG, keep=1, epochs=3, rates=(0.03, 1e-6), backend="ray")
    metric = {t.learning_rate: t.metric for t in again.trials}
    assert metric[0.03] < metric[1e-6] and not any(t.note for t in again.trials)
    assert again.rates == {found.best.name: 0.03}
    assert capsys.readouterr().out == ""
