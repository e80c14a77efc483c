import pandas as pd
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev
from torch.testing import assert_close

from regimes.experiments.lazy.optimisers_and_laziness import LAWS, RATE, Config, draw, judge, measure, table
from regimes.experiments.lazy.optimisers_and_laziness.config import NAMES
from regimes.experiments.lazy.optimisers_and_laziness.rules import RULES
from regimes.experiments.lazy.optimisers_and_laziness.runs import TUNED, batch_weights, train, tried_rates
from regimes.experiments.lazy.starts import net, on_sphere, targets

OBEYED = {name: {"weights": -1.0, "departure": -2.0, "outputs": -1.0, "rate": 0.0} for name in NAMES} | {
    "Adam, rate 1/√α": {"weights": -0.5, "departure": -0.9, "outputs": 0.1, "rate": -0.5},
    "Adam, fixed rate": {"weights": 0.0, "departure": 0.0, "outputs": 1.0, "rate": 0.0},
    TUNED: {"weights": -1.0, "departure": -2.0, "outputs": -1.0, "rate": -1.0},
}


def made_up(laws=OBEYED):
    """Power laws from α = 1000 on, and what is none below; factor and exponent vary a little with the seed."""
    return pd.DataFrame([
        {"optimiser": name, "alpha": alpha, "seed": seed, "risk_left": 0.1 * (1 + seed)}
        | {key: (1 + seed) * max(alpha, 500.0) ** (power + 0.002 * seed) for key, power in law.items()}
        for name, law in laws.items()
        for alpha in (1.0, 1e3, 1e4, 1e5)
        for seed in range(5)
    ])  # fmt: skip


def test_the_derived_exponents_support_the_statement():
    assert judge(made_up()).verdict == "supported"


BROKEN = [
    *((name, column, OBEYED[name][column] + 0.5) for name in NAMES for column in ("weights", "departure", "outputs")),
    (TUNED, "rate", 0.0),
]


@pytest.mark.parametrize(("name", "column", "power"), [
    pytest.param(*broken, marks=[] if broken[1] == "rate" else pytest.mark.slow) for broken in BROKEN
])  # fmt: skip
def test_another_exponent_refutes_its_prediction_alone(name, column, power):
    rows = made_up(OBEYED | {name: OBEYED[name] | {column: power}})
    found = {finding.quantity: finding.verdict for finding in judge(rows).findings}
    assert found.pop(RATE if column == "rate" else f"{name}: {column}") == "refuted"
    assert set(found.values()) == {"supported"}


def test_an_adam_that_is_lazy_at_a_fixed_rate_refutes_the_statement():
    assert judge(made_up(OBEYED | {"Adam, fixed rate": OBEYED["SGD"]})).verdict == "refuted"


def test_table_and_figure_show_what_is_judged():
    rows = made_up()
    shown = table(rows)
    assert shown.optimiser.tolist() == list(LAWS)
    assert_close(shown["exponent of ‖w − w₀‖"].tolist()[-2:], [0.004, -0.996])
    texts = [text.get_text() for text in draw(rows).legends[0].get_texts()]
    assert texts[6] == "Adam, fixed rate: 0.00, 0.00, 1.00"


def test_optimisers_or_scales_that_were_not_run_are_left_out():
    rows = made_up({"SGD": OBEYED["SGD"]})
    assert judge(rows).verdict == "inconclusive"
    assert judge(rows[rows.alpha < 1000]).verdict == "not measured"
    draw(rows[rows.alpha < 1000])


def optimiser_of(name, weights, alpha):
    """Torch's own optimiser with the settings that the name promises at the scale α."""
    if not name.startswith("Adam"):
        return torch.optim.SGD(weights, lr=RULES[name].rate, momentum=0.9 if name == "momentum" else 0.0)
    rate, epsilon = {
        "Adam, rate 1/α": (0.05 / alpha, 1e-8 / alpha),
        "Adam, large ε": (0.5, 1.0),
        "Adam, rate 1/√α": (0.5 / alpha**0.5, 1e-8 / alpha),
        "Adam, fixed rate": (0.05, 1e-8),
    }[name]
    return torch.optim.Adam(weights, lr=rate, eps=epsilon)


@pytest.mark.parametrize("name", [name for name in NAMES if name != TUNED])
def test_the_distances_are_those_of_a_torch_net_and_its_linearisation_under_torchs_optimisers(name):
    """Weights themselves, gradients by autograd, the tangent model from the Jacobian of the net."""
    alpha, steps, m = 20.0, 6, 3
    config = Config(width=m, inputs=2, samples=4, batch=2, steps=steps)
    (row,) = measure(config, [{"optimiser": name, "alpha": alpha, "seed": 1}])
    drawn, (x,), (y,) = net("centred", m, 2, 1), on_sphere(4, 2, [1]), targets(4, [1])
    model = nn.Sequential(nn.Linear(2, m, bias=False), nn.Tanh(), nn.Linear(m, 1, bias=False)).double()
    model[0].weight.data, model[2].weight.data = drawn.input[0].clone(), drawn.output[0].mT.clone()
    start = {key: value.detach().clone() for key, value in model.named_parameters()}
    slopes = jacrev(lambda values: functional_call(model, values, x))(start)

    def full(values):
        return alpha * (functional_call(model, values, x) - functional_call(model, start, x)) / m

    def straight(values):
        return alpha * sum(torch.einsum("nkij,ij->nk", slopes[key], values[key] - start[key]) for key in start) / m

    def trained(f):
        weights = {key: value.clone().requires_grad_() for key, value in start.items()}
        optimiser, path = optimiser_of(name, weights.values(), alpha), []
        for weight in batch_weights(config, [1])[0] if name == "SGD" else torch.ones(steps, 4):
            optimiser.zero_grad()
            (m * (weight[:, None] * (f(weights) - y).square()).mean() / 2 / alpha**2).backward()
            optimiser.step()
            path.append((torch.cat([weights[key].detach().flatten() for key in start]), f(weights).detach()))
        return path

    first = torch.cat([value.flatten() for value in start.values()])
    pairs = list(zip(trained(full), trained(straight), strict=True))
    expected = {
        "weights": max(float((w - first).norm()) / m**0.5 for (w, _), _ in pairs),
        "departure": max(float((w - bar).norm()) / m**0.5 for (w, _), (bar, _) in pairs),
        "outputs": max(float((f - f_bar).norm()) / 2 for (_, f), (_, f_bar) in pairs),
    }
    for column, value in expected.items():
        assert_close(row[column], value, rtol=1e-8, atol=0.0)


def test_a_batch_has_its_size_at_each_step_and_is_unbiased():
    weights = batch_weights(Config(samples=8, batch=2, steps=5), [0, 3])
    assert weights.shape == (2, 5, 8)
    assert set(weights.flatten().tolist()) == {0.0, 4.0}
    assert_close(weights.mean(-1), torch.ones(2, 5, dtype=torch.float64))
    assert not torch.equal(weights[0], weights[1])
    assert_close(batch_weights(Config(samples=3, batch=9, steps=1), [0]), torch.ones(1, 1, 3, dtype=torch.float64))


def test_the_tuned_rate_is_that_of_the_lowest_risk():
    config = Config(alpha=(100.0,), steps=20, tuned=1)
    (row,) = measure(config, [{"optimiser": TUNED, "alpha": 100.0, "seed": 0}])
    singly = [train(config, TUNED, [100.0], [0], rate.reshape(1))["risk_left"].item() for rate in tried_rates(config)]
    assert len(singly) == 6  # 1, 0.1, ..., a thousandth of 1/α
    assert row["risk_left"] == pytest.approx(min(singly))
    assert row["rate"] == pytest.approx(10.0 ** -singly.index(min(singly)))
    assert 0 < singly.index(min(singly)) < 5


def test_a_run_is_the_same_alone_and_in_the_ensemble():
    config = Config()
    points = [{"optimiser": "SGD", "alpha": alpha, "seed": seed} for alpha in (10.0, 1000.0) for seed in (0, 1)]
    for point, row in zip(points, measure(config, points), strict=True):
        (alone,) = measure(config, [point])
        for name, value in alone.items():
            assert_close(row[name], value, rtol=1e-6, atol=0.0)  # rounding of α (h − h(w_0))
