import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.activations import TANH
from regimes.conventions import generator
from regimes.data.synthetic import gaussian_inputs, sphere
from regimes.experiments.lazy import ridgeless_limit
from regimes.experiments.lazy.ridgeless_limit import Config, draw, judge, measure
from regimes.lab.grid import grid_points
from regimes.meanfield.particles import gaussian
from regimes.models.two_layer import TwoLayer
from regimes.tangent.kernel import ntk

OBEYED = {"doubled": -2.0, "centred": -1.0, "plain": 1.0, "wide": -2.0}
FAST = Config(seeds=1, alpha=(50.0, 100.0), wide_alpha=(5,), samples=2, residual=1e-3, wide_residual=1e-2)


def made_up(exponents=OBEYED, share=1e-4, rank=1.0, without=0.0):
    return pd.DataFrame(
        {
            "start": start,
            "alpha": alpha,
            "seed": seed,
            "distance": (1 + seed) * alpha ** (power + 0.002 * seed),
            "error": share * alpha**power,
            "without_offset": (1 + seed) * alpha**without,
            "rank": rank,
            "condition": 100.0,
        }
        for start, power in exponents.items()
        for alpha in (100.0, 300.0, 1000.0)
        for seed in range(5)
    )


def test_the_powers_of_the_theory_support_the_statement():
    assert judge(made_up()).verdict == "supported"


def test_the_worst_error_and_condition_are_told():
    rows = made_up()
    rows.loc[rows.index[7], ["error", "condition"]] = [0.25 * rows.distance.iloc[7], 500.0]
    merits = judge(rows).merits
    assert merits["largest error / distance"] == pytest.approx(0.25)
    assert merits["largest condition of Θ"] == 500


@pytest.mark.parametrize("start", OBEYED)
def test_each_exponent_counts_once(start):
    other = OBEYED | {start: OBEYED[start] + 0.5}
    assert [one.quantity for one in judge(made_up(other)).findings if one.verdict == "refuted"] == [
        f"{start}: exponent"
    ]


@pytest.mark.parametrize(
    "exponents",
    [{"doubled": -1.0}, {"doubled": 2.0}, {"centred": -0.8}, {"centred": -1.2}, {"plain": 0.0}, {"wide": -0.5}],
)
def test_another_power_refutes_it(exponents):
    assert judge(made_up(OBEYED | exponents)).verdict == "refuted"


def test_a_singular_kernel_or_a_needless_offset_refutes_it():
    assert judge(made_up(rank=0.8)).verdict == "refuted"
    assert judge(made_up(without=-1.0)).verdict == "refuted"


def test_nothing_is_said_of_distances_below_ten_times_their_error():
    assert judge(made_up(share=0.5)).verdict == "inconclusive"


def test_the_wide_nets_have_their_own_scales_and_widths():
    points = ridgeless_limit.points(Config(alpha=(10.0, 20.0), wide_alpha=(3,), seeds=1, width=8))
    assert len(points) == 7
    assert {(p["width"], p["alpha"]) for p in points if p["start"] == "wide"} == {(9, 3.0)}
    assert {p["width"] for p in points if p["start"] != "wide"} == {8}


@pytest.mark.slow
def test_every_run_is_trained_to_its_residual_and_only_plain_and_wide_nets_have_an_offset():
    points = [p for p in grid_points(ridgeless_limit, FAST) if p["width"] == FAST.width]
    rows = pd.DataFrame([p | row for p, row in zip(points, measure(FAST, points), strict=True)])
    rows = rows[(rows.start != "wide")]
    lazy = rows[rows.start != "plain"]
    assert (lazy.residual <= FAST.residual * 3).all()  # ‖f − y‖ ≤ residual·√(2 R(f_0)), two targets of N(0, 1)
    assert (lazy.offset_size < 1e-12).all()
    assert (rows[rows.start == "plain"].offset_size > 1).all()
    assert (rows["rank"] == 1).all()
    far, near = (lazy[lazy.alpha == alpha].distance.to_numpy() for alpha in (50.0, 100.0))
    assert (near < far).all()


def test_without_its_offset_the_formula_misses_the_wide_net():
    points = [p for p in grid_points(ridgeless_limit, FAST) if p["start"] == "wide"]
    for row in measure(FAST, points):
        assert row["offset_size"] > 0.05
        assert row["without_offset"] > 2 * row["distance"]


@pytest.mark.slow
def test_the_limit_is_that_of_kernel_regression_on_the_ntk_of_the_module():
    config = Config(seeds=1, start=("centred",), alpha=(1e5,), residual=1e-4, test_samples=3, width=8, samples=2)
    (row,) = measure(config, grid_points(ridgeless_limit, config))
    x, x_test = (sphere(count, config.inputs, generator=generator(0, stream)) for count, stream in ((2, 2), (3, 4)))
    y = gaussian_inputs(2, 1, generator=generator(0, 3))
    model = TwoLayer(config.inputs, 8, activation=TANH, generator=generator(9)).double()
    start = gaussian(8, config.inputs, generators=[generator(0, 1)])
    with torch.no_grad():
        model.input_weights.copy_(start.input[0])
        model.output_weights.copy_(start.output[0].reshape(model.output_weights.shape))
    kernel, cross = (ntk(model, inputs, x, outputs="trace") for inputs in (x, x_test))
    expected = cross @ torch.linalg.solve(kernel, y)
    assert_close(row["limit_size"], float(expected.square().mean().sqrt()))
    assert row["distance"] < 1e-3  # order 1/α, and a residual of 1e-4 times the condition


def test_the_figure_shows_the_distances_and_exponents_that_are_judged():
    figure = draw(made_up(OBEYED | {"plain": 0.9}))
    (legend,), (ax,) = figure.legends, figure.axes
    exponents = ["−2.00", "−1.00", "0.90", "−2.00", "0.00"]
    assert [text.get_text().split(": ")[1] for text in legend.get_texts()] == exponents
    assert_close(float(ax.lines[1].get_ydata()[0]), 120**0.2 * 100**-0.996)  # geometric mean of five seeds at α = 100


def test_starts_that_were_not_run_are_left_out():
    rows = made_up({"centred": -1.0})
    assert list(ridgeless_limit.curves(rows)) == ["centred"]
    draw(rows)
