"""Settings of statements that cannot be measured with are refused when they are read, not on the way."""

import math
from typing import Any

import pytest

from regimes import experiments
from regimes.data.classification import SIZES, classification
from regimes.errors import RunFailed, UserError
from regimes.lab.calls import measure_batch
from regimes.lab.config import Settings, dump, load
from regimes.lab.grid import grid_points


@pytest.mark.parametrize(("name", "setting", "said"), [
    ("euler_step_limit", "method=[Euler, foo]", "unknown method 'foo'. Known methods: Euler"),
    ("hamiltonian_symplectic", "method=[Euler, foo]", "unknown method 'foo'. Known methods: symplectic Euler"),
    ("non_autonomous_energy", "method=[Euler, foo]", "unknown method 'foo'. Known methods: symplectic Euler"),
    ("mnist_low_data", "groups=3", "groups needs to divide filters"),
    ("mnist_low_data", "filters=3", "groups needs to divide filters"),
    ("mnist_low_data", "train_size=[0]", "train_size.0: should be greater"),
    ("mnist_low_data", "train_size=[-5]", "train_size.0: should be greater"),
    ("mnist_low_data", "train_size=[800]", "digits has 1438 samples"),
    ("mnist_low_data", "second_half=400", "digits has 1438 samples for training and validation together and 359"),
    ("mnist_low_data", "encoder_images=100000", "encoder_images: digits has 1438"),
    ("cifar10_low_data", "train_size=[0]", "train_size.0: should be greater"),
    ("cifar10_low_data", "train_size=[1439]", "digits has 1438 samples"),
    ("cifar100_resnext50", "train_size=[-1]", "train_size.0: should be greater"),
    ("depth_without_batch_norm", "depth=[0, 2]", "depth.0: should be greater"),
    ("contractive_robustness", "task=[{dataset: digits, validation: 5000}]", "digits has 1438 samples"),
    ("contractive_robustness", "task=[{dataset: digits, attacked: 60, test_size: 50}]", "attacked: of 50 test images"),
    ("contractive_robustness", "task=[{attacked: 360, test_size: null}]", "attacked: of 359 test images"),
    ("contraction_bound", "radius=1e308", "radius: should be less"),
    ("contraction_bound", "horizon=1e4", "horizon: should be less"),
    ("diversity", "times=[-1]", "times.0: should be greater"),
    ("max_margin", "levels=[0]", "levels.0: should be greater"),
    ("low_energy_bias", "kaiming=[-1]", "kaiming.0: should be greater"),
    ("frozen_eigenvalues_mislead", "small=2", "small: should be less"),
    ("frozen_eigenvalues_mislead", "layers=15", "layers: should be greater"),
])  # fmt: skip
def test_what_cannot_be_measured_with_is_refused_when_it_is_read(name, setting, said):
    experiment = experiments.load(name)
    with pytest.raises(UserError) as told:
        grid_points(experiment, load(experiment.Config, None, [setting]))
    assert said in str(told.value)
    assert "{'dataset'" not in str(told.value)  # no dump of all settings


def test_groups_are_held_against_nets_with_group_norm_only():
    assert load(experiments.load("mnist_low_data").Config, None, ["groups=3", "norm=[batch]"]).groups == 3


def odd(value: Any) -> list[Any]:
    """Values that nothing can be measured with in the place of one."""
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [[other] for other in odd(value[0])] if value else []
    if isinstance(value, str):
        return ["foo"]
    return [math.nan, math.inf, 1e300, -1e300] if isinstance(value, float) else [-(10**40), 10**40]


@pytest.mark.slow
@pytest.mark.parametrize("name", experiments.names())
def test_no_setting_takes_a_number_that_cannot_be_computed_with_or_an_unknown_name(name):
    experiment = experiments.load(name)
    usual = dump(experiment.Config())
    taken = []
    for key, value in usual.items():
        for other in odd(value):
            try:
                grid_points(experiment, experiment.Config.model_validate(usual | {key: other}))
            except ValueError:
                continue
            taken.append((key, other))
    assert taken == []


class Rate(Settings):
    rate: float = 1.0


@pytest.mark.parametrize("error", [
    ValueError("exact_transport needs finite y; 4 of its 4 entries are NaN or infinite."),
    OverflowError("cannot convert float infinity to integer"),
    FloatingPointError("overflow"),
])  # fmt: skip
def test_numbers_of_a_measurement_that_are_not_finite_end_in_a_line(error):
    def measure(config, points):
        raise error

    with pytest.raises(RunFailed, match="no longer finite"):
        measure_batch(measure, Rate(), [{"seed": 0}])


def test_other_errors_of_a_measurement_stay_what_they_are():
    def measure(config, points):
        raise ValueError("weights needs 3 axes")

    with pytest.raises(ValueError, match="3 axes"):
        measure_batch(measure, Rate(), [{"seed": 0}])


def test_so_many_seeds_that_they_cannot_be_listed_are_refused():
    experiment = experiments.load("kernel_drift")
    with pytest.raises(UserError, match="at most 1,000,000"):
        grid_points(experiment, experiment.Config(seeds=10**12))


@pytest.mark.parametrize("name", ["digits", "circles", "spiral2d"])
def test_the_sizes_of_the_data_sets_are_known_without_reading_them(name):
    pool, held = SIZES[name]
    parts = classification(name, train_size=pool)
    assert (len(parts.train.labels), len(parts.test.labels)) == (pool, held)
    with pytest.raises(UserError, match=f"{pool} samples"):
        classification(name, train_size=pool + 1)
