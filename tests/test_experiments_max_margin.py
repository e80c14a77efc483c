import math

import pandas as pd
import pytest
import torch
from sklearn.svm import SVC
from torch.testing import assert_close

from regimes.experiments.mean_field.max_margin import Config, draw, judge, measure, table
from regimes.experiments.mean_field.max_margin.runs import (
    SoftMargin,
    first,
    largest_output_margin,
    largest_variation_margin,
    samples,
    variation_norm,
)
from regimes.meanfield.particles import gaussian


def made_up(both=0.98, output=0.99, other=0.9, early=0.7, wide=0.1, above=0.9):
    """Eight runs of every kind: margins over 0.1, the largest one of both norms."""
    rows = []
    for seed in range(8):
        for d, trained in [(d, kind) for d in (2, 20) for kind in ("both layers", "output layer")]:
            point = {"inputs": d, "trained": trained, "seed": seed}
            shares = {2.0: early, 10.0: above, 50.0: both} if trained[0] == "b" else {100.0: 0.5, 6000.0: other}
            for level, share in shares.items():
                look = {"kind": "look", "level": level, "least": level, "variation": 0.1 * share,
                        "output": 0.1 * (output if level == 6000 else 0.6), "error": 0.0}  # fmt: skip
                rows.append(point | look)
            error = wide if trained[0] == "o" and d == 20 else 0.001 * seed
            nan = float("nan")
            best = {"best_variation": 0.1 if d == 2 else nan, "best_output": 0.1 if trained[0] == "o" else nan}
            rows.append(rows[-1] | best | {"kind": "end", "error": error})
    return pd.DataFrame(rows)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "verdict"), [
    (made_up(), "supported"), (made_up(both=0.8, early=0.2), "refuted"), (made_up(output=0.9), "refuted"),
    (made_up(other=0.99), "refuted"), (made_up(early=0.97), "refuted"), (made_up(above=1.01), "refuted"),
    (made_up(wide=0.01), "refuted"),
])  # fmt: skip
def test_each_prediction_is_judged_by_its_own_number(rows, verdict):
    assert judge(rows).verdict == verdict


def test_a_seed_that_has_not_reached_the_level_leaves_its_margin_unknown():
    both = ["plane, both layers: variation-norm margin over the largest one",
            "plane, both layers: gap to the largest margin at min y f = 50, over that at 2"]  # fmt: skip
    rows = made_up()
    late = (rows.inputs == 2) & (rows.trained == "both layers") & (rows.level == 50) & (rows.kind == "look")
    some, none = (judge(rows[~(late & (rows.seed < few))]).findings for few in (1, 8))
    assert [found.verdict for found in some if found.quantity in both] == 2 * ["inconclusive"]
    assert all(math.isnan(found.value) for found in some if found.quantity in both)
    assert [found.verdict for found in none if found.quantity in both] == 2 * ["not measured"]
    rows.loc[(rows.trained == "output layer") & (rows.level == 6000) & (rows.seed == 0), "level"] = math.nan
    verdicts = {found.quantity: found.verdict for found in judge(rows).findings}
    assert verdicts["plane, output layer: margin of its kernel over the largest one"] == "inconclusive"


def test_the_gap_between_the_last_two_levels_stands_beside():
    rows = made_up()
    rows.loc[rows.level == 10, "level"] = 20.0
    merits = judge(rows).merits
    assert merits["plane, both layers: gap at min y f = 50, over that at 20"] == pytest.approx(0.02 / 0.1)


@pytest.mark.slow
def test_table_and_figure_show_both_kinds_of_nets():
    assert table(made_up()).trained.tolist() == 2 * ["both layers", "output layer"]
    assert len(draw(made_up()).axes) == 2


def test_the_gradient_is_that_of_autograd():
    x, y = torch.randn(2, 5, 3, dtype=torch.float64), torch.sign(torch.randn(2, 5, dtype=torch.float64))
    net = gaussian(4, 3, generators=[torch.Generator().manual_seed(seed) for seed in (1, 2)])
    for part in net:
        part.requires_grad_()
    risk = SoftMargin(x, y)
    value = torch.logsumexp(-risk.margins(net), 1).sum()
    for found, expected in zip(risk.gradient(net), torch.autograd.grad(value, list(net)), strict=True):
        assert_close(found.detach(), expected)


def test_the_largest_margin_of_the_output_layer_is_that_of_a_support_vector_machine():
    x, y = samples(20, 2, torch.Generator().manual_seed(3))
    hidden = (first(30, 2, False, torch.Generator().manual_seed(4)).input[0] @ x.T).clamp_min(0)
    kernel = (hidden.T @ hidden / 30).numpy()
    machine = SVC(C=1e8, kernel="precomputed", tol=1e-8).fit(kernel, y.numpy())
    # without intercept: the pairs (x, y) and (−φ, −y) force it to 0
    doubled = SVC(C=1e8, kernel="precomputed", tol=1e-10)
    both = torch.cat([hidden, -hidden], 1)
    labels = torch.cat([y, -y]).numpy()
    doubled.fit((both.T @ both / 30).numpy(), labels)
    weights = (
        doubled.dual_coef_ @ (both.T @ both / 30).numpy()[doubled.support_][:, doubled.support_] @ doubled.dual_coef_.T
    )
    assert largest_output_margin(hidden, y) == pytest.approx(1 / math.sqrt(weights.item()), rel=1e-4)
    assert machine.fit_status_ == 0


def test_two_points_have_the_margin_known_by_hand():
    """x_1 = −x_2 with opposite signs: relu(θ·x) with θ = x_1 gives 1 and 0; half each of two neurons gives ½ twice."""
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert largest_variation_margin(x, y) == pytest.approx(0.5)


@pytest.mark.slow
def test_no_net_has_a_larger_margin_in_variation_norm():
    x, y = samples(20, 2, torch.Generator().manual_seed(5))
    net = gaussian(400, 2, generators=[torch.Generator().manual_seed(seed) for seed in range(200)])
    margins = SoftMargin(x.expand(200, 20, 2), y.expand(200, 20)).margins(net).amin(1) / variation_norm(net)
    assert float(margins.max()) <= largest_variation_margin(x, y) * 1.0001


@pytest.mark.slow
def test_runs_of_an_ensemble_do_not_depend_on_each_other():
    config = Config(neurons=20, iterations=400, levels=(0.2, 0.5), samples=16, step=0.1)
    wanted = [{"inputs": 2, "trained": "both layers", "seed": seed} for seed in (0, 1)]
    together, alone = measure(config, wanted), measure(config, wanted[1:])
    assert len(alone[0]) == len(together[1])
    for one, other in zip(together[1], alone[0], strict=True):
        assert one.pop("kind") == other.pop("kind")
        assert one == pytest.approx(other, rel=1e-9, nan_ok=True)
