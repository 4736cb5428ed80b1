import json
from dataclasses import asdict

import numpy as np
import pytest
from cnnlib.schedules import SCHEDULES, Cosine, OneCycle, Step, Triangle
from training import LinearModel, digits_like, quiet_solver, trained


def factors(schedule, epochs, num_epochs=10):
    return [schedule(epoch, num_epochs) for epoch in epochs]


def test_step():
    assert factors(Step(2), [0, 1.9, 2, 3.9, 4]) == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert factors(Step((1, 5), 0.5), [0, 0.9, 1, 4.9, 5, 9]) == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])
    assert factors(Step(1.1, 0.5), [1.1, 2.2, 3.3, 7.7]) == [0.5, 0.25, 0.125, 0.5**7]  # 3.3 // 1.1 is 2


def test_cosine():
    assert factors(Cosine(), [0, 2.5, 5, 10]) == pytest.approx([1, (1 + np.sqrt(0.5)) / 2, 0.5, 0])
    assert factors(Cosine(final=0.2, warmup=2), [0, 1, 2, 6, 10]) == pytest.approx([0, 0.5, 1, 0.6, 0.2])


def test_one_cycle():
    schedule = OneCycle(warmup=0.4, start=0.1, final=0.01)
    assert factors(schedule, [0, 2, 4, 7, 10]) == pytest.approx([0.1, 0.55, 1, 0.505, 0.01])
    assert factors(OneCycle(warmup=0), [0, 10]) == pytest.approx([1, 4e-6])
    assert factors(OneCycle(warmup=1), [0, 5, 9.999]) == pytest.approx([0.04, 0.52, 1], abs=1e-3)


def test_triangle():
    schedule = Triangle(peak=0.4, start=0.2, final=0.1)
    assert factors(schedule, [0, 2, 4, 7, 10, 11]) == pytest.approx([0.2, 0.6, 1, 0.55, 0.1, 0.1])
    assert factors(Triangle(peak=0), [0, 5, 10]) == pytest.approx([1, 0.5, 0])
    assert factors(Triangle(peak=1), [0, 5, 10]) == pytest.approx([0.2, 0.6, 1])


@pytest.mark.parametrize("name", SCHEDULES.classes)
def test_by_name_and_back(name):
    arguments = {"epochs": (1.0, 3.0)} if name == "step" else {"final": 0.5}
    built = SCHEDULES.build({"name": name, **arguments})
    described = SCHEDULES.describe(built)
    assert described == {"name": name, **asdict(built)}
    assert SCHEDULES.build(json.loads(json.dumps(described))) == built


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("cosin", ValueError, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"name": "cosine", "warm": 2}, ValueError, "unknown key 'warm' in cosine; did you mean 'warmup'"),
        ({"warmup": 2}, TypeError, "schedule must be a name"),
        (3, TypeError, "schedule must be a name"),
        ("step", TypeError, "epochs"),
        ({"name": "step", "epochs": 0}, ValueError, "epochs must be finite and at least 1"),
        ({"name": "step", "epochs": 0.1}, ValueError, "epochs must be finite and at least 1"),
        ({"name": "cosine", "final": 2}, ValueError, "final must be"),
        ({"name": "one-cycle", "warmup": -0.1}, ValueError, "warmup must be"),
        ({"name": "triangle", "peak": 1.5}, ValueError, "peak must be"),
    ],
)
def test_refuses(value, error, message):
    with pytest.raises(error, match=message):
        quiet_solver(LinearModel(36, 4), digits_like(), schedule=value)


def test_the_solver_follows_it():
    rates = []

    def rule(w, dw, config):
        rates.append(config["learning_rate"])
        return w - config["learning_rate"] * dw, config

    settings = {"update_rule": rule, "optim_config": {"learning_rate": 0.5}, "num_epochs": 2}
    solver = trained(LinearModel(36, 4), digits_like(), schedule={"name": "cosine", "warmup": 1}, **settings)
    falling = [0.25 * (1 + np.cos(np.pi * share)) for share in (0, 0.25, 0.5, 0.75)]
    assert rates == pytest.approx([0, 0.125, 0.25, 0.375, *falling])
    assert solver.learning_rate_history == [rates[3], rates[7]]

    by_default = trained(LinearModel(36, 4), digits_like(), schedule=lambda e, n: 2.0, update_rule="adam")
    assert by_default.learning_rate_history == [0.002, 0.002]


def test_needs_a_learning_rate_and_no_decay():
    for name, value in (("schedule", "cosine"), ("weight_decay", 0.1), ("lr_decay", 0.9)):
        with pytest.raises(ValueError, match=f"{name} needs a learning_rate in optim_config"):
            quiet_solver(
                LinearModel(36, 4), digits_like(), update_rule=lambda w, dw, c: (w, c), **{name: value}
            )
    with pytest.raises(ValueError, match="lr_decay and schedule exclude each other"):
        quiet_solver(LinearModel(36, 4), digits_like(), schedule="cosine", lr_decay=0.9)
