import pandas as pd
import pytest
import torch
from torch.func import functional_call, jvp
from torch.testing import assert_close

from regimes.errors import RunFailed
from regimes.experiments.lazy import layer_importance
from regimes.experiments.lazy.layer_importance import Config, draw, judge, runs, table

TINY = Config(width=6, hidden=2, samples=12, test_samples=15, iterations=20)
OBEYED = {"tanh": (0.6, -1.0), "relu": (0.9, -0.5)}  # gap at α = 1, exponent in α


def made_up(gaps=OBEYED, effective=(4.0, 5.5), drops=(0.15, 0.05), first=0.1):
    """Two layers; the pairs are values at α = 1 and above."""
    return pd.DataFrame([
        {"activation": name, "alpha": alpha, "seed": seed, "gap": (1 + seed) * factor * alpha ** (power + 0.002 * seed),
         "effective": effective[alpha > 1] + 0.01 * seed, "largest_drop": drops[alpha > 1] + 0.001 * seed,
         "first_over_others": (first if alpha == 1 else -0.1) + 0.001 * seed, "accuracy": 0.9, "left": 0.1,
         "drop_1": drops[alpha > 1], "drop_2": 0.01, "effect_1": 0.5, "effect_2": 0.4}
        for name, (factor, power) in gaps.items()
        for alpha in (1.0, 10.0, 100.0, 1000.0) for seed in range(5)
    ])  # fmt: skip


def test_rows_that_obey_support_the_statement():
    assert judge(made_up()).verdict == "supported"


@pytest.mark.parametrize(("changed", "broken"), [
    ({"gaps": OBEYED | {"tanh": (0.6, -0.5)}}, {"SMOOTH"}),
    ({"gaps": OBEYED | {"relu": (0.9, -1.0)}}, {"KINK"}),
    ({"gaps": OBEYED | {"tanh": (0.01, -1.0)}}, {"RICH_GAP"}),
    ({"effective": (5.5, 5.0)}, {"FEW"}),
])  # fmt: skip
def test_each_broken_claim_is_refuted_alone(changed, broken):
    assert refuted(made_up(**changed)) == {getattr(layer_importance, name) for name in broken}


def refuted(rows):
    return {finding.quantity for finding in judge(rows).findings if finding.verdict == "refuted"}


@pytest.mark.parametrize(("changed", "broken"), [
    ({"drops": (0.04, 0.08)}, "CRITICAL"), ({"first": -0.05}, "FIRST"), ({"drops": (0.3, 0.2)}, "ROBUST"),
])  # fmt: skip
def supported(rows):
    return {finding.quantity for finding in judge(rows).findings if finding.verdict == "supported"}


def test_a_part_without_the_end_that_is_meant_says_nothing_about_it():
    rows, found = made_up(), layer_importance
    rich, lazy = rows[rows.alpha == 1], rows[rows.alpha >= 100]
    assert supported(rich) == {found.RICH_GAP, f"tanh, {found.FIRST}", f"ReLU, {found.FIRST}"}
    assert supported(lazy) == {found.SMOOTH, found.KINK, f"tanh, {found.ROBUST}", f"ReLU, {found.ROBUST}"}
    assert refuted(rich) == refuted(lazy) == set()


def test_what_relu_nets_rest_on_is_shown_and_not_judged():
    rows = made_up()
    rows.loc[(rows.activation == "relu") & (rows.alpha == 1), "effective"] = 11.04
    judgement = judge(rows)
    assert judgement.verdict == "supported"
    shown = judgement.merits["ReLU: effective number of layers, smallest over largest α"]
    assert shown == pytest.approx(2, rel=0.01)


def test_table_and_figure_show_what_is_judged():
    shown = table(made_up())
    assert shown["α"].tolist() == 2 * [1.0, 10.0, 100.0, 1000.0]
    assert shown["loss, layer 1"].tolist()[0] == pytest.approx(0.15)
    legend = draw(made_up()).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text()[-5:] for text in legend.get_texts()] == ["−1.00", "−0.50"]


def moved(alpha, by=1.0):
    """Nets of one seed at some scales whose layers have moved by random steps of size `by`/α, and digits."""
    scales = torch.tensor(alpha, dtype=torch.float64)
    nets = runs.nets(TINY, "tanh", [3] * len(alpha), scales)
    last = {
        key: value + by * torch.randn(value.shape[1:], dtype=torch.float64) / scales[:, None, None]
        for key, value in nets.first.items()
    }
    return nets._replace(last=last), runs.digits(TINY, [3] * len(alpha)).x_test


def test_all_layers_back_give_the_output_zero():
    nets, x = moved([1.0, 5.0])
    assert_close(nets.outputs(nets.first, x), torch.zeros(2, 15, 10, dtype=torch.float64))


def test_the_effect_of_a_layer_is_the_output_less_that_of_the_net_with_its_old_weights():
    nets, x = moved([2.0])
    f, parts = runs.effects(nets, x)
    net = nets.architecture
    at = {key: value[0] for key, value in nets.last.items()}
    start = {key: value[0] for key, value in nets.first.items()}

    def out(weights):
        return 2 * (functional_call(net, weights, (x[0],)) - functional_call(net, start, (x[0],))) / 6**0.5

    assert_close(f[0], out(at))
    for layer, key in enumerate(at):
        assert_close(parts[layer, 0], out(at) - out(at | {key: start[key]}))


@pytest.mark.slow
def test_effects_of_a_lazy_net_are_those_of_its_tangent_model_and_add_up():
    nets, x = moved([1e5])
    f, parts = runs.effects(nets, x)
    start = {key: value[0] for key, value in nets.first.items()}
    for layer, key in enumerate(start):
        step = {other: torch.zeros_like(value) for other, value in start.items()}
        step[key] = 1e5 * (nets.last[key][0] - start[key])
        _, along = jvp(lambda own: functional_call(nets.architecture, own, (x[0],)) / 6**0.5, (start,), (step,))
        assert_close(parts[layer, 0], along, rtol=1e-3, atol=1e-4)
    assert float(runs.norm(parts.sum(0) - f) / runs.norm(f)) < 1e-4


def test_the_gap_of_smooth_nets_falls_like_one_over_the_scale():
    torch.manual_seed(0)
    steps = [torch.randn(value.shape[1:], dtype=torch.float64) for value in moved([1.0])[0].first.values()]
    gaps = []
    for alpha in (100.0, 1000.0):
        nets, x = moved([alpha])
        last = {key: value + step / alpha for (key, value), step in zip(nets.first.items(), steps, strict=True)}
        f, parts = runs.effects(nets._replace(last=last), x)
        gaps.append(float(runs.norm(parts.sum(0) - f) / runs.norm(f)))
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.05)  # the next order is 1/α


@pytest.mark.slow
def test_each_net_is_trained_as_if_alone_and_stops_at_its_loss():
    config = TINY.model_copy(update={"iterations": 400, "loss_ratio": 0.7})
    scales = torch.tensor([1.0, 50.0], dtype=torch.float64)
    data = runs.digits(config, [3, 4])
    _, left = runs.trained(config, runs.nets(config, "tanh", [3, 4], scales), data)
    own = runs.Digits(*(part[1:] for part in data))
    _, alone = runs.trained(config, runs.nets(config, "tanh", [4], scales[1:]), own)
    assert_close(left[1:], alone)
    assert (left <= 0.7).all()
    assert (left > 0.6).all()


def test_one_step_is_that_of_gradient_descent_on_the_scaled_risk():
    config = TINY.model_copy(update={"iterations": 1})
    start = runs.nets(config, "relu", [3], torch.tensor([4.0], dtype=torch.float64))
    data = runs.digits(config, [3])
    found, _ = runs.trained(config, start, data)
    weights = {key: value[0].clone().requires_grad_() for key, value in start.first.items()}
    outputs = functional_call(start.architecture, weights, (data.x[0],)) / 6**0.5
    risk = (4 * (outputs - outputs.detach()) - data.y[0]).square().sum(1).mean() / 2 / 16
    for (key, weight), slope in zip(weights.items(), torch.autograd.grad(risk, list(weights.values())), strict=True):
        assert_close(found.last[key][0], (weight - 0.1 * 6 * slope).detach())


def test_a_step_that_raises_the_loss_is_taken_back():
    config = TINY.model_copy(update={"iterations": 60, "step": 50.0})
    data = runs.digits(config, [3])
    _, left = runs.trained(config, runs.nets(config, "tanh", [3], torch.tensor([100.0], dtype=torch.float64)), data)
    assert float(left) < 1


def test_nets_that_have_not_reached_their_loss_are_not_compared():
    config = TINY.model_copy(update={"iterations": 1})
    with pytest.raises(RunFailed, match=r"of its loss left; take more"):
        runs.measure(config, [{"activation": "tanh", "alpha": 1.0, "seed": 0}])
