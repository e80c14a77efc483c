import math

import numpy as np
import pandas as pd
import pytest

from regimes.conventions import generator
from regimes.data.synthetic import teacher_student
from regimes.experiments.lazy import width_scaling
from regimes.experiments.lazy.width_scaling import runs
from regimes.lab.config import load
from regimes.lab.grid import grid_points
from regimes.meanfield.particles import gaussian

TINY = width_scaling.Config(
    width=[6], seeds=2, inputs=30, samples=12, test_samples=7, iterations=60, precision="float64"
)


def table(lazy=(0.2, 0.7, 0.9), mean_field=(0.05, 0.08, 0.1)):
    """Three trials at m = 16, 128, 512; losses are given as plotted (× 0.1)."""
    return pd.DataFrame([
        {"width": width, "seed": seed, "scaling": scaling, "test_end": 10 * loss * (1 + 0.01 * seed), "linear": 13.6,
         "test_best": 10 * loss, "train_end": 0.0, "weight_motion": 1.0}
        for scaling, losses in (("1/sqrt(m)", lazy), ("1/m", mean_field))
        for width, loss in zip((16, 128, 512), losses, strict=True)
        for seed in range(3)
    ])  # fmt: skip


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in width_scaling.judge(rows).findings}


def test_a_rising_and_a_low_curve_support_the_statement():
    judgement = width_scaling.judge(table())
    assert judgement.verdict == "supported"
    assert judgement.merits["ratio of the test losses, geometric mean"] == pytest.approx(0.8 / 0.09)


@pytest.mark.parametrize(("change", "quantity"), [
    ({"lazy": (1.2, 0.8, 0.7)}, width_scaling.SLOPE),
    ({"lazy": (0.1, 0.35, 0.4)}, width_scaling.LAZY_SHARE),
    ({"lazy": (0.2, 1.3, 1.3), "mean_field": (0.5, 0.5, 0.52)}, width_scaling.MEAN_FIELD_SHARE),
])  # fmt: skip
def test_a_table_that_breaks_one_prediction_refutes_it_alone(change, quantity):
    found = verdicts(table(**change))
    assert found.pop(quantity) == "refuted"
    assert set(found.values()) == {"supported"}


def test_the_slope_is_that_of_loss_against_width_and_the_ratio_a_geometric_mean():
    rows = table(lazy=(0.2, 0.2 * 8**0.3, 0.2 * 32**0.3))
    rows.loc[rows.scaling == "1/m", "test_end"] *= 1.5**rows.seed
    found = {finding.quantity: finding.value for finding in width_scaling.judge(rows).findings}
    assert found[width_scaling.SLOPE] == pytest.approx(0.3)
    ratios = 0.1 * (8**0.3 + 32**0.3) / 0.09 / 1.5 ** np.arange(3)
    assert found[width_scaling.RATIO] == pytest.approx(ratios.prod() ** (1 / 3))


def test_the_slope_of_the_other_scaling_and_the_motion_of_the_widest_nets_are_shown():
    rows = table(mean_field=(0.05, 0.05 * 8**0.4, 0.05 * 32**0.4))
    rows.loc[(rows.width == 512) & (rows.scaling == "1/sqrt(m)"), "weight_motion"] = 0.25
    merits = width_scaling.judge(rows).merits
    assert merits["slope of log test loss against log m for 1/m, m ≥ 16"] == pytest.approx(0.4)
    assert merits["‖w − w0‖/‖w0‖ of 1/√m at the largest width"] == pytest.approx(0.25)


def test_two_scalings_that_generalise_alike_refute_the_ratio():
    assert verdicts(table(lazy=(0.3, 0.4, 0.5), mean_field=(0.3, 0.4, 0.4)))[width_scaling.RATIO] == "refuted"


@pytest.mark.parametrize("scaling", ["1/m", "1/sqrt(m)"])
def test_training_is_the_published_update_of_the_net_with_that_scaling(scaling):
    points = [point for point in grid_points(width_scaling, TINY) if point["seed"] == 1]
    rows = width_scaling.measure(TINY, points)
    row = rows[[point["scaling"] for point in points].index(scaling)]
    m = 6
    s, step = (1 / m, 0.05 / m) if scaling == "1/m" else (m**-0.5, 1 / m)
    options = {"inputs": TINY.inputs, "magnitude": 30.0, "generator": generator(1, 0)}
    data = teacher_student(TINY.samples, TINY.test_samples, **options)
    index = {"1/m": 0, "1/sqrt(m)": 1}[scaling]
    drawn = gaussian(m, TINY.inputs, generators=[generator(1, 1, m, index)])
    a, b = drawn.output[0, :, 0], drawn.input[0]

    def loss(x, y):
        return ((s * (x @ b.T).relu() @ a - y[:, 0]).square().mean() / 2).item()

    tests = []
    for _ in range(TINY.iterations):
        tests.append(loss(data.x_test, data.y_test))
        features = (data.x_train @ b.T).relu()
        residual = (s * features @ a - data.y_train[:, 0]) / TINY.samples
        pulled = (residual[:, None] * (features > 0)).T @ data.x_train * a[:, None]
        a, b = a - step / s * features.T @ residual, b - step / s * pulled
    assert row["test_end"] == pytest.approx(loss(data.x_test, data.y_test), rel=1e-8)
    assert row["train_end"] == pytest.approx(loss(data.x_train, data.y_train), rel=1e-8)
    assert row["test_best"] == pytest.approx(min(tests[0], tests[50], row["test_end"]), rel=1e-8)


def test_the_two_scalings_of_a_trial_share_data_and_not_the_initialisation():
    still = TINY.model_copy(update={"iterations": 1})
    points = [point for point in grid_points(width_scaling, still) if point["seed"] == 0]
    first, second = width_scaling.measure(still, points)
    assert first["linear"] == second["linear"]
    alone = width_scaling.measure(still, points[1:])[0]
    assert alone == pytest.approx(second)


def test_the_configuration_file_is_the_published_size():
    config = load(width_scaling.Config, "configs/width_scaling.yaml")
    assert config.width == [2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512]
    assert (config.inputs, config.samples, config.test_samples) == (100, 1000, 1000)
    assert (config.iterations, config.seeds) == (25_000, 10)
    assert len(grid_points(width_scaling, config)) == 13 * 2 * 10


def test_the_particle_step_of_the_mean_field_net_does_not_depend_on_the_width():
    # step/s² on the gradient of R: 0.05·m for 1/m (particle flow, time step 0.05), 1 for 1/√m, as published.
    for m in (2, 512):
        assert runs.STEPS["1/m"](m) / m == pytest.approx(0.05)
        assert (0.05 / m) / runs.SCALINGS["1/m"](m) ** 2 == pytest.approx(runs.STEPS["1/m"](m))
        assert (1 / m) / runs.SCALINGS["1/sqrt(m)"](m) ** 2 == pytest.approx(runs.STEPS["1/sqrt(m)"](m))


def test_what_a_linear_function_and_a_constant_leave_is_that_of_the_unit_teacher_times_the_targets_scale():
    row = width_scaling.measure(TINY, grid_points(width_scaling, TINY)[:1])[0]
    unit = 3 * (1 - 2 / math.pi) / (8 * 30)  # ½ · 3 neurons · ¼ · (1 − 2/π)/d
    assert row["linear"] == pytest.approx(30**2 * unit)


def test_table_and_figure_show_losses_over_that_of_the_zero_function():
    rows = table()
    zero = 13.6 / ((1 - 2 / math.pi) / 2)
    lines = width_scaling.table(rows).set_index(["m", "scaling"])
    assert lines.loc[(128, "1/sqrt(m)"), "test loss / that of f = 0"] == pytest.approx(7.07 / zero)
    (ax,) = width_scaling.draw(rows).axes
    curves = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert curves["scaling $1/m$"].tolist() == pytest.approx(
        [100 * loss * 1.01 * 10 / zero for loss in (0.05, 0.08, 0.1)]
    )


def test_a_scaling_or_widths_that_were_not_run_leave_out_their_predictions():
    rows = table()
    found = verdicts(rows[rows.scaling == "1/m"])
    assert found.pop(width_scaling.MEAN_FIELD_SHARE) == "supported"
    assert set(found.values()) == {"not measured"}
    narrow = rows[rows.width < 100]
    assert set(verdicts(narrow).values()) == {"not measured"}
    width_scaling.draw(narrow)
