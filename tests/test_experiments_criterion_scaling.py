import math

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.experiments.lazy import criterion_scaling
from regimes.experiments.lazy.criterion_scaling import HIGH, LAWS, LINEAR, LOW, RIGHT, Config, draw, judge, table
from regimes.experiments.lazy.criterion_scaling.laws import EXPONENTS, QUADRATIC, Size
from regimes.experiments.lazy.criterion_scaling.laws import LAWS as MAKERS
from regimes.experiments.lazy.criterion_scaling.runs import criterion, measure, problem
from regimes.lab.grid import grid_points
from regimes.tangent.criterion import lazy_criterion

KNOWN = {law: exponent for law, (exponent, _) in EXPONENTS.items()}


def made_up(exponents=KNOWN, linear=0.0, right=1.0, low=1.0, high=1.5):
    """Known values, and power laws of which factor and exponent vary a little with the seed."""
    rows = []
    for law in MAKERS:
        for factor in (1, 4, 16):
            for seed in range(5):
                if law in KNOWN:
                    kappa, truth = (1 + seed) * factor ** (exponents[law] + 0.002 * seed), math.nan
                    ends = {"low": 0.9 * kappa, "estimate": kappa, "high": 1.2 * kappa}
                elif law == "linear":
                    truth, ends = 0.0, {"low": 0.0, "estimate": 0.0, "high": linear}
                else:
                    truth = 0.3 + seed
                    ends = {"low": low * truth, "estimate": right * truth, "high": high * truth}
                rest = {"distance": 1.0, "slope": 1.0, "bend": 0.0 if law == "linear" else 1.0, "truth": truth}
                rows.append({"law": law, "factor": factor, "seed": seed} | ends | rest)
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in judge(rows).findings}


def test_the_derived_laws_support_the_statement():
    judged = judge(made_up())
    assert judged.verdict == "supported"
    assert judged.merits["upper bound / closed form, anticommuting, largest"] == pytest.approx(1.5)
    assert judged.merits["exponent of the upper bound in m, α = 1/m"] == pytest.approx(0.0, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("broken", "quantity"), [
    ({"linear": 1e-3}, LINEAR), ({"right": 0.97}, RIGHT), ({"right": 1.02}, RIGHT), ({"low": 1.001}, LOW),
    ({"high": 0.999}, HIGH),
    *(({"exponents": KNOWN | {law: value + 0.1}}, LAWS[law]) for law, value in KNOWN.items()),
    *(({"exponents": KNOWN | {law: value - 0.1}}, LAWS[law]) for law, value in KNOWN.items()),
])  # fmt: skip
def test_each_prediction_can_be_refuted_alone(broken, quantity):
    found = verdicts(made_up(**broken))
    assert found.pop(quantity) == "refuted"
    assert set(found.values()) == {"supported"}


def test_the_exponent_that_version_4_of_the_paper_allows_is_not_the_one_predicted():
    """m^-1/2 + (mα)^-1/2 is larger: −1/4 for α = m^-1/2, −1/8 for α = m^-3/4."""
    found = verdicts(made_up(KNOWN | {"m, α = m^-1/2": -0.25, "m, α = m^-3/4": -0.125}))
    assert {quantity for quantity, verdict in found.items() if verdict == "refuted"} == {
        LAWS["m, α = m^-1/2"], LAWS["m, α = m^-3/4"],
    }  # fmt: skip


def test_a_part_of_the_laws_can_be_judged_tabled_and_drawn():
    rows = made_up()
    some = rows[rows.law.isin(["linear", "α, centred"])]
    found = verdicts(some)
    assert found[LINEAR] == found[LAWS["α, centred"]] == "supported"
    assert found[RIGHT] == "not measured"
    assert table(some).law.tolist() == 3 * ["linear"] + 3 * ["α, centred"]
    assert len(draw(some).axes) == 3
    assert draw(rows).axes[0].get_legend().get_texts()[0].get_text() == "centred: −1.00"


def test_the_laws_of_the_width_have_their_own_number_of_seeds():
    config = Config(law=("linear", "m, α = 1"), factor=(1, 2), seeds=2, wide_seeds=3)
    counts = [(point["law"], point["factor"]) for point in grid_points(criterion_scaling, config)]
    assert [counts.count((law, 2)) for law in config.law] == [2, 3]


def dense(made):
    """All Hessians of the outputs over √n, by autograd twice, of a model with few parameters."""
    params = {name: value.detach() for name, value in made.model.named_parameters() if value.requires_grad}
    sizes = [value.numel() for value in params.values()]

    def outputs(w):
        parts = dict(zip(params, w.split(sizes), strict=True))
        values = {name: part.view_as(params[name]) for name, part in parts.items()}
        return torch.func.functional_call(made.model, values, (made.x,))[:, 0] / len(made.x) ** 0.5

    w = torch.cat([value.reshape(-1) for value in params.values()])
    return torch.func.hessian(outputs)(w), torch.func.jacrev(outputs)(w)


@pytest.mark.slow
@pytest.mark.parametrize("law", list(QUADRATIC))
def test_the_closed_form_of_a_quadratic_model_is_what_a_search_with_its_dense_hessians_finds(law):
    made = MAKERS[law](Size(seed=3, factor=2, inputs=3, samples=4, hidden=4, width=4))
    hessians, slopes = dense(made)
    best = 0.0
    for _ in range(60):
        cotangent = torch.randn(len(hessians), dtype=torch.float64)
        for _ in range(60):
            values, vectors = torch.linalg.eigh(torch.einsum("i,ijk->jk", cotangent / cotangent.norm(), hessians))
            v = vectors[:, values.abs().argmax()]
            cotangent = torch.einsum("ijk,j,k->i", hessians, v, v)
        best = max(best, float(cotangent.norm()))
    distance = (made.model(made.x).detach() - made.y).square().mean().sqrt()
    assert_close(made.truth, float(distance * best / torch.linalg.matrix_norm(slopes, 2) ** 2), rtol=1e-6, atol=0.0)


@pytest.mark.slow
def test_the_unfolding_of_anticommuting_hessians_is_root_three_too_large():
    config = Config(law=("anticommuting",), factor=(2,), seeds=1)
    (row,) = measure(config, grid_points(criterion_scaling, config))
    assert_close(row["high"] / row["truth"], 3**0.5, rtol=1e-2, atol=0.0)  # the tolerance of the search
    assert_close(row["estimate"], row["truth"], rtol=1e-4, atol=0.0)  # where a climb stops


@pytest.mark.slow
def test_no_second_derivative_couples_two_neurons_so_the_norm_is_that_of_the_worst_one():
    """The law of the width: ‖D²h‖ = α max_j ‖D²φ_j‖, each neuron by a dense search of its own."""
    config = Config(law=("m, α = m^-1/2",), factor=(1,), wide_seeds=1, width=6, samples=4)
    (point,) = grid_points(criterion_scaling, config)
    made = problem(config, point)
    hessians, slopes = dense(made)
    found, worst = criterion(config, point), 0.0
    for neuron in range(6):
        own = [neuron, *range(6 + 3 * neuron, 9 + 3 * neuron)]
        u = torch.nn.functional.normalize(torch.randn(4000, 4, dtype=torch.float64))
        part = hessians[:, own][:, :, own]
        for _ in range(200):  # fixed points of u <- D²h[u, ·] pulled back along D²h[u, u], shifted to rise
            image = torch.einsum("ijk,rj,rk->ri", part, u, u)
            u = torch.nn.functional.normalize(torch.einsum("ijk,ri,rk->rj", part, image, u) + u)
        worst = max(worst, float(torch.einsum("ijk,rj,rk->ri", part, u, u).norm(dim=1).max()))
    rest = hessians.clone()
    for neuron in range(6):
        own = torch.tensor([neuron, *range(6 + 3 * neuron, 9 + 3 * neuron)])
        rest[:, own[:, None], own] = 0
    assert_close(rest, torch.zeros_like(rest))
    assert_close(found.second_derivative.low, worst, rtol=1e-3, atol=0.0)  # where a climb stops
    assert_close(found.derivative.low, float(torch.linalg.matrix_norm(slopes, 2)))


def test_relu_in_place_of_a_smooth_activation_is_refused():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)).double()
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="prove nothing"):
        lazy_criterion(net, x, y, generator=torch.Generator().manual_seed(0))
