"""The main job: its models agree where theory says they must, and its verdict follows the measurement."""

import json
import math

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.testing import assert_close

from regimes.conventions import square_risk
from regimes.jobs.lazy_vs_meanfield import Config, run
from regimes.jobs.lazy_vs_meanfield.bound import proved_bounds
from regimes.jobs.lazy_vs_meanfield.figure import draw
from regimes.jobs.lazy_vs_meanfield.kernels import solve_kernels
from regimes.jobs.lazy_vs_meanfield.measure import MODELS, Measurement, measure
from regimes.jobs.lazy_vs_meanfield.problem import losses, problem
from regimes.jobs.lazy_vs_meanfield.report import (
    caption,
    result,
    slim_table,
    summary,
    table,
    theorem,
    verdicts,
    words,
)
from regimes.lab.config import load
from regimes.lab.console import print_table
from regimes.lab.runs import RunFolder

SMALL = [
    "dataset=circle",
    "width=20",
    "seeds=2",
    "train_size=8",
    "test_size=20",
    "horizon=10",
    "times=12",
    "tolerance=1e-3",
]
CLASSES = [
    "dataset=digits",
    "width=8",
    "seeds=2",
    "train_size=12",
    "test_size=12",
    "horizon=3",
    "times=10",
    "tolerance=1e-3",
]


def small(*overrides: str) -> Config:
    return load(Config, None, [*SMALL, "loss_ratio=0.05", *overrides])


def test_sizes_left_open_are_those_of_the_data_set():
    assert load(Config, None, ["dataset=circle"]).train_size == 15
    assert load(Config, None, ["dataset=circle", "train_size=9"]).train_size == 9


@pytest.mark.parametrize(
    "wrong",
    [
        "alpha=0",
        "alpha=-1",
        "alpha=.nan",
        "alpha=1e11",
        "alpha=1e-12",
        "alpha=.inf",
        "alpha=[100]",
        "width=3",
        "seeds=0",
        "activation=gelu",
    ],
)
def test_a_wrong_setting_is_refused(wrong):
    with pytest.raises(ValueError, match=wrong.split("=")[0]):
        small(wrong)


def test_all_models_start_at_zero_on_targets_of_unit_mean_square():
    given = problem(small())
    assert_close(square_risk(torch.zeros_like(given.y), given.y), torch.full((2,), 0.5, dtype=torch.float64))
    assert float((given.start.output.sum(1)).abs().max()) < 1e-12  # sums of at most 20 numbers of size 1, in pairs


def test_at_alpha_one_the_scaled_net_is_the_mean_field_net():
    measurement = measure(small("alpha=1"))
    assert np.array_equal(measurement.test_loss[0], measurement.test_loss[2], equal_nan=True)
    assert np.array_equal(measurement.paths[0], measurement.paths[1])


@pytest.mark.slow
def test_a_smooth_scaled_net_comes_to_its_tangent_model_at_rate_one_over_alpha_squared():
    # The doubled start is symmetric under (a, b, α) → (−a, b, −α), so the error of order 1/α cancels in the outputs.
    near, far = (measure(small(f"alpha={alpha}", "activation=erf", "tolerance=1e-6")) for alpha in (30, 300))
    ends = [np.take_along_axis(each.tangent_distance[0], each.stop[0][:, None], 1)[:, 0] for each in (near, far)]
    assert (ends[1] < ends[0] / 50).all()
    assert (ends[1] > ends[0] / 200).all()


def test_the_tangent_model_is_the_one_that_small_steps_of_gradient_descent_find():
    config = small()
    given = problem(config)
    solved = solve_kernels(config, given, torch.tensor([0.1] * 11 + [2.0], dtype=torch.float64))
    features = _features(given.start.output[0, :, 0], given.start.input[0], given.x[0])
    tests = _features(given.start.output[0, :, 0], given.start.input[0], given.x_test[0])
    n, steps = len(given.x[0]), 4000
    weights = torch.zeros(features.shape[1], 1, dtype=torch.float64)
    for _ in range(steps):  # Euler steps of w' = −m ∇R
        weights -= 2.0 / steps * config.width * features.mT @ (features @ weights - given.y[0]) / n
    assert_close(tests @ weights, solved.tangent_test[-1, 0], rtol=0, atol=1e-3)  # Euler's error: t λ² step / 2


def _features(a: torch.Tensor, b: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Gradient of (1/m) Σ a relu(b·x) in (a, b), one row a sample."""
    pre = x @ b.T
    slopes = (a * (pre > 0))[:, :, None] * x[:, None, :]
    return torch.cat([torch.relu(pre), slopes.flatten(1)], 1) / len(a)


def test_classes_are_counted_and_regressions_are_not():
    y = torch.tensor([[[1.0], [-1.0]]], dtype=torch.float64)
    outputs = torch.tensor([[[0.2], [0.1]]], dtype=torch.float64)
    assert_close(losses(outputs, y, 2)[1], torch.tensor([0.5], dtype=torch.float64))
    assert losses(outputs, y, None)[1].isnan().all()


def test_theorem_2_3_bounds_a_smooth_net_and_says_nothing_of_relu():
    smooth = measure(small("activation=erf", "alpha=100"))
    found = theorem(smooth)["lazy"]
    assert 0 < found["measured"] <= found["bound"] < 1
    assert math.isnan(theorem(made_up(0.01, 0.01))["lazy"]["bound"])


def test_a_larger_scale_is_granted_a_smaller_ball_and_a_longer_time():
    config = small("activation=erf")
    given = problem(config)
    near, far = (proved_bounds(config, given, alpha)[0] for alpha in (100.0, 1000.0))
    assert far[0] > near[0]
    assert far[1] < near[1]


def made_up(distance: float, drift: float, error: float = 0.0, seeds: int = 3) -> Measurement:
    """A measurement of one net with these figures and another with distance and drift 1, all seeds equal."""
    times, points = 4, 5
    curve = np.ones((4, seeds, times))
    nets = np.ones((2, seeds, times))
    scaled = nets * np.array([1e-3, 1.0])[:, None, None]
    return Measurement(
        times=np.arange(1.0, times + 1),
        train_loss=curve,
        test_loss=curve * np.array([2.0, 2.0, 1.0, 2.0])[:, None, None],
        train_error=np.nan * curve,
        test_error=np.nan * curve,
        weight_motion=scaled,
        activation_flips=scaled,
        activation_flips_error=0 * nets,
        tangent_distance=nets * np.array([distance, 1.0])[:, None, None],
        train_departure=scaled,
        integration_error=nets * error,
        stop=np.full((4, seeds), times - 1),
        reached=np.ones((4, seeds), dtype=bool),
        kernel_drift=np.ones((2, seeds)) * np.array([drift, 1.0])[:, None],
        kernel_drift_error=np.zeros((2, seeds)),
        spectrum_start=np.ones((seeds, points)),
        spectrum_end=np.ones((2, seeds, points)),
        condition=np.ones((2, seeds)),
        bound_time=np.full((2, seeds), np.nan),
        bound=np.full((2, seeds), np.nan),
        paths=np.zeros((2, times, 6, 2)),
        signs=np.ones((2, 6)),
        teacher=np.zeros((0, 2)),
        teacher_signs=np.zeros(0),
        plane=np.array(["x", "y"]),
    )


@pytest.mark.parametrize(
    ("distance", "drift", "error", "verdict"),
    [
        (0.01, 0.01, 0.0, "lazy"),
        (0.5, 0.01, 0.0, "not lazy"),
        (0.01, 0.5, 0.0, "undecided"),
        (0.05, 0.01, 0.01, "undecided"),
    ],
)
def test_the_verdict_follows_the_figures_and_their_integration_error(distance, drift, error, verdict):
    measurement = made_up(distance, drift, error)
    assert verdicts(summary(measurement, classes=False), measurement)["lazy"].verdict == verdict


@pytest.mark.parametrize(("left", "verdict"), [(1.0, "undecided"), (0.95, "undecided"), (0.8, "lazy")])
def test_a_net_that_has_hardly_been_trained_is_not_called_lazy(left, verdict):
    measurement = made_up(0.01, 0.01)
    measurement.reached[0, 1] = False
    measurement.train_loss[0, 1, -1] = left
    said = verdicts(summary(measurement, classes=False), measurement)["lazy"]
    assert said.verdict == verdict
    assert ("in 1 of 3 seeds its training loss has fallen by less than a tenth" in said.words) == (left > 0.9)


def test_the_test_losses_are_compared_seed_by_seed():
    measurement = made_up(0.01, 0.01)
    said = " ".join(words(measurement, summary(measurement, classes=False), small("alpha=100")))
    assert "seeds: 2 [2, 2] (higher)" in said


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_verdict_on_one_seed_says_so(seeds):
    measurement = made_up(0.01, 0.01, seeds=seeds)
    judged = verdicts(summary(measurement, classes=False), measurement)
    assert {one.words.endswith(" (one seed, no interval)") for one in judged.values()} == {seeds == 1}
    assert ("one training" in caption(seeds)) == (seeds == 1)


def test_no_interval_leaves_the_range_of_its_quantity():
    measurement = made_up(0.01, 0.01)
    measurement.tangent_distance[0, :, -1] = [0.001, 0.01, 0.2]
    found = summary(measurement, classes=False)
    assert found["lazy"]["tangent_distance"].interval.low > 0
    shown = table(measurement, found, small())
    assert "-" not in next(row for row in shown if row["quantity"] == "tangent distance")["scaled net, α = 100"]


def test_a_model_that_missed_the_criterion_is_named():
    measurement = made_up(0.01, 0.01)
    measurement.reached[1, 0] = False
    said = " ".join(words(measurement, summary(measurement, classes=False), small()))
    assert "The tangent model did not reach the criterion in 1 of" in said


def test_a_time_is_the_mean_over_the_seeds_that_met_the_criterion():
    measurement = made_up(0.01, 0.01)
    measurement.reached[1, 0] = False
    measurement.stop[1] = [3, 0, 1]  # of the times 1, 2, 3, 4
    assert summary(measurement, classes=False)["tangent"]["time"].value == 1.5
    measurement.reached[1] = False
    assert "time" not in summary(measurement, classes=False)["tangent"]


def test_a_criterion_met_before_the_first_moment_is_said():
    measurement = made_up(0.01, 0.01)
    measurement.stop[3, 0] = 0
    said = " ".join(words(measurement, summary(measurement, classes=False), small()))
    assert "The infinite-width kernel met the criterion before the first moment" in said


def test_the_table_has_a_column_a_model_and_the_result_all_promised_names():
    config = small()
    measurement = made_up(0.01, 0.01)
    found = summary(measurement, classes=False)
    assert {len(row) for row in table(measurement, found, config)} == {1 + len(MODELS)}
    content = result(measurement, found, config)
    assert {"alpha", "dataset", "models", "integration_error", "verdict"} <= set(content)
    assert set(content["models"]) == set(MODELS)
    for model in MODELS:
        assert {"train_loss", "test_loss"} <= set(content["models"][model])
    for net in ("lazy", "mean_field"):
        promised = {"weight_motion", "kernel_drift", "activation_flips", "tangent_distance", "verdict"}
        assert promised <= set(content["models"][net])


@pytest.mark.parametrize(
    "overrides",
    [
        SMALL,
        CLASSES,
        pytest.param([*CLASSES, "classes=[3, 8]"], marks=pytest.mark.slow),
        pytest.param([*SMALL, "activation=erf"], marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_a_run_leaves_table_figure_and_result_and_is_not_trained_twice(tmp_path, monkeypatch, capsys, overrides):
    config = load(Config, None, [*overrides, "loss_ratio=0.5"])
    with RunFolder.open(tmp_path / "run", "lazy-vs-meanfield", config) as folder:
        run(config, folder)
        first = json.loads((folder.path / "result.json").read_text())
        for file in ("figure.png", "figure.pdf", "table.md", "config.yaml"):
            assert (folder.path / file).stat().st_size > 100
        for part in ("measure", "_draw"):  # nothing is trained again; one figure is enough
            monkeypatch.setattr(f"regimes.jobs.lazy_vs_meanfield.{part}", lambda *arguments: None)
        run(config, folder)
        assert json.loads((folder.path / "result.json").read_text())["models"] == first["models"]
    assert "tangent distance" in capsys.readouterr().out
    assert ("test_error" in first["models"]["lazy"]) == (overrides[0] == "dataset=digits")


def drawn(*overrides: str, reach: tuple[float, float] = (1.0, 40.0)) -> Figure:
    """The figure of nets whose neurons end at most so far from 0."""
    measurement = made_up(0.01, 0.01)
    paths = np.stack([size * np.linspace(-1, 1, 48).reshape(4, 6, 2)[:, :, :1].repeat(2, axis=2) for size in reach])
    return draw(measurement._replace(paths=paths), small(*overrides))


def axes_by_title(figure: Figure) -> dict[str, Axes]:
    return {axis.get_title(): axis for axis in figure.axes}


@pytest.mark.parametrize("reach", [(1.0, 40.0), (40.0, 1.0)])
def test_the_neurons_of_either_net_fill_their_own_panel(reach):
    panels = axes_by_title(drawn("alpha=100", reach=reach))
    for title, far in zip(("scaled net, α = 100", "mean-field net, α = 1"), reach, strict=True):
        for low, high in (panels[title].get_xlim(), panels[title].get_ylim()):
            assert low < -far  # they start at −far and end at far
            assert far < high < 1.2 * far


def test_at_alpha_one_the_second_panel_shows_the_start_closer():
    measurement = made_up(0.01, 0.01)
    paths = np.ones((2, 4, 6, 2)) * np.array([1.0, 5.0, 20.0, 30.0])[:, None, None]
    panels = axes_by_title(draw(measurement._replace(paths=paths), small("alpha=1")))
    assert panels["scaled net, α = 1"].get_xlim()[1] > 30
    assert panels["the same, near the start"].get_xlim()[1] < 1.2


def test_the_figure_says_its_settings_and_what_its_bands_are():
    figure = drawn("alpha=100")
    said = " ".join(text.get_text() for part in (figure, *figure.subfigs) for text in part.texts)
    said += " ".join(part.get_suptitle() + part.get_supxlabel() for part in figure.subfigs)
    assert "circle, n = 8 samples, m = 20 neurons, 2 seeds" in said
    assert "bands reach" in said.replace("\n", " ")


def test_the_seed_that_is_drawn_has_a_teacher_of_both_signs():
    given = problem(load(Config, None, ["seeds=5", "width=10", "train_size=5", "test_size=5"]))
    assert given.teacher.output[:, 0].sign().unique().numel() == 2
    assert given.drawn == 1  # all three neurons of the teacher of seed 0 have one sign


def test_the_table_fits_a_screen_of_eighty_columns(capsys):
    measurement = made_up(0.0123456, 0.0123456)
    config = small("alpha=1e10")
    print_table(slim_table(measurement, summary(measurement, classes=True), config))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
