import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.data.synthetic import sphere
from regimes.experiments.lazy import feature_selection
from regimes.experiments.lazy.feature_selection import Config, draw, judge, runs, table
from regimes.experiments.lazy.rotations import least_error, quadratic_features
from regimes.streams import Data
from regimes.tangent.infinite import two_layer_ntk

OBEYED = {"kernel": (0.7, 0.0), "lazy": (0.75, 0.0), "net": (0.8, -0.4)}  # error at d = k, exponent in d/k
TINY = Config(inputs=6, samples=12, validation=20, test_samples=50, width=8, relevant=(2, 6), iterations=40)


def made_up(least=0.5, to_tangent=0.03, **changed):
    laws = OBEYED | changed
    return pd.DataFrame([
        {"relevant": k, "seed": seed, "d_over_k": 32 / k, "least": least, "to_tangent": to_tangent, "tangent": 0.75,
         "net_left": 1e-4, "lazy_left": 1e-3}
        | {arm: factor * (32 / k) ** (power + 0.001 * seed) for arm, (factor, power) in laws.items()}
        for k in (2, 8, 32) for seed in range(5)
    ])  # fmt: skip


def tiny_parts(relevant):
    return [runs.draw_part(TINY, relevant, 3, stream, 12) for stream in (Data.TRAIN, Data.VALIDATION, Data.TEST)]


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in judge(rows).findings}


def test_rows_that_obey_support_the_statement():
    assert judge(made_up()).verdict == "supported"


@pytest.mark.parametrize(("changed", "broken"), [
    ({"net": (0.8, 0.1), "least": 0.65}, {"GAIN", "LAZY_GAIN", "BELOW"}),
    ({"lazy": (1.2, -0.45), "least": 0.28}, {"LAZY_GAIN"}),
    ({"kernel": (0.7, 0.1)}, {"BLIND"}),
    ({"kernel": (0.45, 0.0)}, {"BOUND"}),
    ({"lazy": (0.45, 0.0)}, {"LAZY_BOUND"}),
    ({"net": (0.8, -0.1)}, {"BELOW"}),
    ({"net": (0.3, -0.4)}, {"NOTHING_TO_SELECT"}),
    ({"to_tangent": 0.2}, {"KERNEL"}),
])  # fmt: skip
def test_each_broken_claim_is_refuted_alone(changed, broken):
    found = verdicts(made_up(**changed))
    assert {name for name in found if found[name] == "refuted"} == {getattr(feature_selection, name) for name in broken}


def test_without_the_fewest_relevant_inputs_the_bound_need_not_be_passed():
    rows = made_up()
    found = verdicts(rows[rows.relevant > 2])
    assert found.pop(feature_selection.BELOW) == "not measured"
    assert set(found.values()) == {"supported"}


def test_table_and_figure_show_what_is_judged():
    shown = table(made_up())
    assert shown["k"].tolist() == [2, 8, 32]
    assert shown["mean-field net over the bound"].tolist() == pytest.approx(
        [1.6 * (32 / k) ** -0.398 for k in (2, 8, 32)]  # the exponent is 0.002 above −0.4 in the mean
    )
    assert shown["NTK over mean-field net"].tolist()[-1] == pytest.approx(0.875)
    assert "0.40" in draw(made_up()).axes[1].get_legend().get_texts()[0].get_text()


@pytest.mark.parametrize("relevant", [2, 6])
def test_every_target_has_unit_energy_and_no_trace(relevant):
    x = sphere(200_000, 6, generator=generator(0)) * 6**0.5
    y = runs.target(x, relevant)
    assert float(y.square().mean()) == pytest.approx(1, abs=0.03)  # 5 standard errors of about 0.005
    assert float(y.mean()) == pytest.approx(0, abs=0.012)
    assert torch.autograd.functional.hessian(lambda z: runs.target(z[None], relevant)[0], x[0]).trace().abs() < 1e-12


def test_the_bound_counts_quadratic_forms_without_trace():
    x = torch.randn(200, 5, dtype=torch.float64)
    squares = (x[:, :, None] * x[:, None, :]).flatten(1)
    assert quadratic_features(5) == torch.linalg.matrix_rank(squares) - 1 == 14
    assert least_error(7, 5) == pytest.approx(0.5)
    assert least_error(20, 5) == 0.0


def test_no_coefficients_bring_a_kernel_below_the_bound_on_average():
    """The best approximation to the target in the span of the kernel's quadratic parts, over 200 draws of samples."""
    d, n, left = 4, 4, []
    axes = torch.eye(d, dtype=torch.float64)
    basis = [torch.outer(axes[i], axes[j]) + torch.outer(axes[j], axes[i]) for i in range(d) for j in range(i)]
    basis += [axes[i].diag() - axes[i + 1].diag() for i in range(d - 1)]
    q = torch.linalg.qr(torch.stack([each.flatten() for each in basis], 1))[0]  # orthonormal forms of trace 0
    goal = q.T @ (axes[0].diag() - axes[1].diag()).flatten() / 2**0.5
    for seed in range(200):
        x = sphere(n, d, generator=generator(seed))
        span = torch.linalg.qr(q.T @ (x[:, :, None] * x[:, None, :]).flatten(1).T)[0]  # zonal forms (x_i·z)²
        left.append(float(1 - (span.T @ goal).square().sum()))
    left = torch.tensor(left)
    error = float(left.std() / 200**0.5)
    assert abs(float(left.mean()) - least_error(n, d)) < 5 * error  # n independent directions: equality


def test_the_kernel_is_blind_to_rotations():
    x = sphere(5, 4, generator=generator(1)) * 2
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    assert_close(two_layer_ntk(x @ turn, activation=RELU, std_b=0.5), two_layer_ntk(x, activation=RELU, std_b=0.5))


def test_the_error_of_the_kernel_is_that_of_plain_linear_algebra_with_the_best_ridge():
    parts = [
        runs.draw_part(TINY, [2, 6], 3, stream, 12)
        for stream in (runs.Data.TRAIN, runs.Data.VALIDATION, runs.Data.TEST)
    ]
    ridge, error = runs.kernel_errors(*parts)
    k = [two_layer_ntk(part.x, parts[0].x, activation=RELU, std_b=6**-0.5) for part in parts]
    for column in range(2):
        y = [part.y[:, column] for part in parts]
        fits = [torch.linalg.solve(k[0] + 12 * each * torch.eye(12), y[0]) for each in runs.RIDGES]
        best = min(range(len(fits)), key=lambda i: float((k[1] @ fits[i] - y[1]).square().sum()))
        assert float(ridge[column]) == runs.RIDGES[best]
        assert_close(error[column], (k[2] @ fits[best] - y[2]).square().sum() / y[2].square().sum())


def test_the_net_is_trained_as_a_torch_net_is_and_stopped_where_validation_is_best():
    parts = tiny_parts([2])
    found = runs.trained(TINY, 3, 1.0, *parts)
    net = runs.first_net(TINY, 3)
    a, b = (part[0].clone().requires_grad_() for part in net)
    first = [(torch.relu(part.x @ net.input[0].T) @ net.output[0] / 8) for part in parts]
    best, error, shares = torch.inf, 0.0, []
    for step in range(41):
        f = [torch.relu(part.x @ b.T) @ a / 8 - offset for part, offset in zip(parts, first, strict=True)]
        shares = [
            float((each - part.y).detach().square().mean() / part.y.square().mean())
            for each, part in zip(f, parts, strict=True)
        ]
        if step % TINY.look_every == 0 and shares[1] < best:
            best, error = shares[1], shares[2]
        slopes = torch.autograd.grad((f[0] - parts[0].y).square().mean() / 2, (a, b))
        with torch.no_grad():
            a -= 4 * slopes[0]
            b -= 4 * slopes[1]
    assert float(found.error[0]) == pytest.approx(error, rel=1e-3)  # float32
    assert float(found.left[0]) == pytest.approx(shares[0], rel=1e-2)


def test_a_lazy_net_is_near_its_tangent_model_and_a_rich_one_is_not():
    parts = tiny_parts([2])
    ends = [runs.trained(TINY, 3, alpha, *parts) for alpha in (1.0, 1e4)]
    far = [float(runs.share(end.f_test, end.tangent).sqrt()) for end in ends]
    assert far[0] > 0.3
    assert far[1] < 0.05


def test_input_weights_have_the_size_that_makes_preactivations_of_order_one():
    config = TINY.model_copy(update={"width": 4000, "inputs": 6})
    net = runs.first_net(config, 0)
    assert float(net.input.square().sum(2).mean()) == pytest.approx(1, abs=0.05)  # 5 standard errors of 0.009
    assert float(net.output.square().mean()) == pytest.approx(1, abs=0.12)  # 5 standard errors of 0.022
