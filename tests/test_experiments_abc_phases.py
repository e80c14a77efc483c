from typing import Any, cast

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.experiments.lazy import abc_phases
from regimes.experiments.lazy.abc_phases import (
    LARGE,
    OF_NTK,
    OF_UPDATE,
    OUTPUT,
    RICH,
    SMALL,
    STABILITY,
    VANISHING,
    Config,
    draw,
    judge,
    measure,
    table,
)
from regimes.experiments.lazy.abc_phases.numbers import boundary, richness, stable
from regimes.experiments.lazy.abc_phases.runs import start
from regimes.experiments.lazy.scaled_nets import samples

S, A = (0.5, 0.75, 1.0, 1.25), (-0.25, 0.0, 0.25, 0.5, 0.75)


def of_features(s, a):
    return -richness(s, a)


def of_output(s, a):
    return 0.0 if stable(s, a) else 1.0


def of_read(s, a):
    return 2 - 2 * s - 2 * a


def made_up(features=of_features, output=of_output, read=of_read):
    """Power laws over the plane whose factor and exponent vary a little with the seed."""
    return pd.DataFrame([
        {"width": width, "readout": s, "hidden": a, "seed": seed, "share": 0.1 if stable(s, a) else 1e9}
        | {name: (1 + seed) * width ** (law(s, a) + 0.002 * (seed - 1))
           for name, law in {"feature": features, "change": output, "read": read}.items()}
        for s in S
        for a in A
        for seed in range(3)
        for width in (64, 512)
    ])  # fmt: skip


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in judge(rows).findings}


def test_the_exponents_of_the_theory_support_the_statement():
    judged = judge(made_up())
    assert judged.verdict == "supported"
    assert judged.merits["stable points"] == 2 + 3 + 4 + 4
    assert judged.merits["exponent of the features + r, largest"] == pytest.approx(0, abs=1e-9)
    assert judged.merits["share of the risk left at stable points, median"] == 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("broken", "laws"), [
    ({SMALL}, {"features": lambda s, a: of_features(s, a) - 0.2 * (s < 1 and a != 0.5)}),
    ({LARGE}, {"features": lambda s, a: of_features(s, a) - 0.2 * (s >= 1 and a > 0)}),
    ({RICH}, {"features": lambda s, a: of_features(s, a) - 0.3 * (s > 1 and a == 0)}),
    ({OF_NTK}, {"features": lambda s, a: of_features(s, a) - 0.2 * (s == a == 0.5)}),
    ({OF_UPDATE}, {"features": lambda s, a: of_features(s, a) - 0.15 * (s == 1 and a == 0)}),
    ({VANISHING}, {"features": lambda s, a: of_features(s, a) + (1.6 * a - 0.8) * (s >= 1 and a > 0)}),
    ({OUTPUT}, {"output": lambda s, a: of_output(s, a) + 0.2}),
    ({STABILITY}, {"read": lambda s, a: of_read(s, a) + 0.2}),
])  # fmt: skip
def test_a_broken_law_refutes_its_prediction_alone(broken, laws):
    found = verdicts(made_up(**laws))
    assert {name for name, verdict in found.items() if verdict == "refuted"} == broken


def test_kernel_regime_and_feature_learning_meet_on_the_known_parametrisations():
    assert richness(0.5, 0.5) == 0.5  # NTK
    assert richness(1.0, 0.0) == 0.0  # maximal update
    assert stable(0.5, 0.5)
    assert stable(1.0, 0.0)
    for s in S:
        assert stable(s, boundary(s))
        assert not stable(s, boundary(s) - 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("theta", [0.0, 0.7])
def test_the_net_is_that_of_the_paper_with_its_a_b_and_c_and_its_symmetry(theta):
    """Weights n^-a_l w_l with w_l ~ N(0, n^-2b_l) and rate n^-c, by autograd; θ moves nothing else."""
    n, s, a = 12, 0.75, 0.3
    config = Config.model_validate({"hidden_layers": 3, "steps": 4, "inputs": 5, "samples": 3})
    (row,) = measure(config, [{"width": n, "readout": s, "hidden": a, "seed": 2}])
    (x,), (y,) = samples(3, 5, [2])
    x = x * 5**0.5
    scale = [power + theta for power in (a - 0.5, a, a, 0.5)]
    c = -2 * theta
    drawn = start(config, {"width": n, "readout": s}, [2])
    w = [(matrix[0] * n**power).requires_grad_() for matrix, power in zip(drawn, scale, strict=True)]

    def net():
        states = [x]
        for weights, power in zip(w, scale, strict=True):
            states.append(torch.tanh(states[-1]) if len(states) > 1 else states[-1])
            states[-1] = states[-1] @ weights.mT * n**-power
        return torch.tanh(states[-2]), states[-1]

    (features_0, f_0), output_weights = (one.detach() for one in net()), w[-1].detach() * n ** -scale[-1]
    read = torch.zeros(())
    for step in range(4):
        _, f = net()
        gradients = torch.autograd.grad((f - f_0 - y).square().mean() / 2, w)
        for layer, (weights, slope) in enumerate(zip(w, gradients, strict=True)):
            weights.data -= n**-c * (1 / 5 if layer == 0 else 1) * slope
        if step == 0:
            read = ((net()[0].detach() - features_0) @ output_weights.mT).square().mean().sqrt()
    features, f = (one.detach() for one in net())
    assert_close(row["feature"], float((features - features_0).norm() / features_0.norm()), rtol=1e-9, atol=0)
    assert_close(row["change"], float((f - f_0).square().mean().sqrt()), rtol=1e-9, atol=0)
    assert_close(row["read"], float(read), rtol=1e-9, atol=0)
    assert_close(row["share"], float((f - f_0 - y).square().mean() / y.square().mean()), rtol=1e-9, atol=0)


def test_a_seed_alone_is_the_same_as_in_an_ensemble():
    points = [{"width": 8, "readout": 1.0, "hidden": 0.25, "seed": seed} for seed in (0, 1)]
    both = measure(Config.model_validate({}), points)
    assert measure(Config.model_validate({}), points[1:])[0] == pytest.approx(both[1])


def test_table_and_figure_show_the_whole_plane():
    rows = made_up()
    shown = table(rows)
    assert len(shown) == len(S) * len(A)
    assert set(shown.nets) == {"unstable", "kernel", "features"}
    plane, cuts = (cast(Any, ax) for ax in draw(rows).axes[:2])
    assert plane.collections[0].get_array().shape == (len(A), len(S))
    assert len(cuts.get_legend().get_texts()) == 3


def test_rows_of_one_width_are_not_measured():
    rows = made_up().query("width == 64")
    assert abc_phases.judge(rows).verdict == "not measured"
    draw(rows)
