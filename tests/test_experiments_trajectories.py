import math

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.data.synthetic import teacher_student
from regimes.data.teacher import Teacher
from regimes.experiments.lazy import trajectories
from regimes.experiments.lazy.trajectories import runs
from regimes.lab.config import load
from regimes.lab.grid import grid_points

TINY = trajectories.Config(seeds=2, neurons=6, samples=7, iterations=150)


def table(fit=1e-4, small=5.0, large=0.05, small_share=0.9, large_share=0.15):
    rows = []
    for seed in range(4):
        wobble = 1 + 0.01 * seed
        for tau, motion, share in ((0.1, small, small_share), (2.0, large, large_share)):
            common = {"tau": tau, "seed": seed, "kind": "end", "fit": fit * wobble, "motion": motion * wobble}
            rows.append({**common, "share": share / wobble, "share_start": 0.15})
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in trajectories.judge(rows).findings}


def test_moving_and_standing_neurons_support_the_statement():
    assert trajectories.judge(table()).verdict == "supported"


@pytest.mark.parametrize(("change", "quantity"), [
    ({"fit": 0.1}, trajectories.FIT),
    ({"small": 0.5}, trajectories.SMALL_MOTION),
    ({"large": 1.0}, trajectories.LARGE_MOTION),
    ({"small_share": 0.2}, trajectories.SMALL_SHARE),
    ({"large_share": 0.8}, trajectories.LARGE_SHARE),
])  # fmt: skip
def test_a_table_that_breaks_one_prediction_refutes_it_alone(change, quantity):
    found = verdicts(table(**change))
    assert found.pop(quantity) == "refuted"
    assert set(found.values()) == {"supported"}


def test_fit_and_motion_are_geometric_means_and_the_worse_fit_counts():
    rows = table()
    small = (rows.tau == 0.1).to_numpy()
    for column, values in (("fit", (1e-5, 1e-4, 1e-4, 1e-3)), ("motion", (3.0, 4.0, 5.0, 6.0))):
        rows.loc[small, column] = values
    rows.loc[~small, "fit"] = 1e-6
    found = {finding.quantity: finding.value for finding in trajectories.judge(rows).findings}
    assert found[trajectories.FIT] == pytest.approx(1e-4)
    assert found[trajectories.SMALL_MOTION] == pytest.approx(360**0.25)


def test_runs_that_do_not_fit_or_end_elsewhere_are_counted_however_good_the_means_are():
    rows = table()
    rows.loc[(rows.tau == 2.0) & (rows.seed == 1), "fit"] = 0.02
    rows.loc[(rows.tau == 0.1) & (rows.seed < 2), "fit"] = 0.011
    rows.loc[(rows.tau == 0.1) & (rows.seed == 3), "share"] = 0.1
    merits = trajectories.judge(rows).merits
    assert merits["runs at τ = 0.1 that end above 1% of the risk of f = 0"] == 2
    assert merits["runs at τ = 2 that end above 1% of the risk of f = 0"] == 1
    assert merits["runs at τ = 0.1 with less than half of their mass within 20°"] == 1
    alone = trajectories.judge(rows[rows.tau == 2.0]).merits
    assert "runs at τ = 0.1 that end above 1% of the risk of f = 0" not in alone


def data_with(directions, signs):
    data = teacher_student(3, 3, inputs=2, generator=generator(0))
    angles = torch.tensor(directions, dtype=torch.float64).deg2rad()
    teacher = Teacher(torch.tensor(signs).double()[:, None], torch.stack([angles.cos(), angles.sin()], 1))
    return data._replace(teacher=teacher)


def neuron(angle, length):
    return [length * math.cos(math.radians(angle)), length * math.sin(math.radians(angle))]


def test_mass_counts_within_twenty_degrees_of_a_teacher_neuron_of_its_own_sign():
    data = data_with([0.0, 120.0], [1.0, -1.0])
    input = torch.tensor([neuron(19, 2.0), neuron(-21, 1.0), neuron(120, 1.0), neuron(125, 3.0)]).double()
    output = torch.tensor([[2.0], [1.0], [1.0], [-1.0]]).double()
    # masses 4, 1, 1, 3: the second is too far away, the third has the wrong sign
    assert runs.aligned_share(output, input, data) == pytest.approx(7 / 9)


def test_the_start_is_doubled_on_the_circle_of_radius_tau():
    output, input = runs.initial(TINY, 0, 0.3)
    assert_close(input.norm(dim=1), torch.full((6,), 0.3).double())
    assert_close(output[:3], -output[3:])
    assert torch.equal(input[:3], input[3:])
    assert ((output[:3] > 0) & (output[:3] < 0.3)).all()
    assert_close(runs.initial(TINY, 0, 0.6)[0], 2 * output)


def test_paths_are_those_of_plain_gradient_descent():
    points = grid_points(trajectories, TINY)
    results = trajectories.measure(TINY, points)
    index = points.index({"tau": 0.1, "seed": 0})
    path = pd.DataFrame([row for row in results[index] if row["kind"] == "path"])
    data = teacher_student(7, 200, inputs=2, generator=generator(0, 0))
    a, b = (weights.clone().requires_grad_() for weights in runs.initial(TINY, 0, 0.1))
    for iteration in range(1, TINY.iterations + 1):
        risk = ((data.x_train @ b.T).relu() @ a - data.y_train).square().mean() / 2
        slopes = torch.autograd.grad(risk, (a, b))
        with torch.no_grad():
            a -= TINY.step * slopes[0]
            b -= TINY.step * slopes[1]
        here = path[path.iteration == iteration]
        if iteration in (1, 12, TINY.iterations):
            expected = (a.abs() * b).detach()
            assert_close(torch.tensor(here[["x", "y"]].to_numpy()), expected, atol=1e-5, rtol=0)  # kept to five digits
            assert here.sign.tolist() == a[:, 0].sign().tolist() or iteration < TINY.iterations


def test_only_the_drawn_seeds_keep_their_paths_and_every_run_has_its_end():
    points = grid_points(trajectories, TINY)
    results = zip(points, trajectories.measure(TINY, points), strict=True)
    kinds = {(point["tau"], point["seed"]): {row["kind"] for row in rows} for point, rows in results}
    assert kinds[0.1, 0] == {"end", "path", "teacher"}
    assert kinds[2.0, 1] == {"end"}


def test_a_run_does_not_depend_on_the_others_of_its_ensemble():
    points = grid_points(trajectories, TINY)
    together = trajectories.measure(TINY, points)[3][0]
    alone = trajectories.measure(TINY, points[3:])[0][0]
    assert alone.pop("kind") == together.pop("kind")
    assert alone == pytest.approx(together, rel=1e-9)


def test_the_configuration_file_is_the_published_size():
    config = load(trajectories.Config, "configs/trajectories.yaml")
    assert (config.neurons, config.samples, config.iterations, config.step) == (16, 15, 100_000, 0.005)
    assert config.tau == [0.1, 2.0]


def measured(config):
    points = grid_points(trajectories, config)
    results = trajectories.measure(config, points)
    return pd.DataFrame([{**point, **row} for point, found in zip(points, results, strict=True) for row in found])


def test_the_figure_shows_the_paths_of_both_scales_and_the_motion_that_is_judged():
    rows = measured(TINY)
    figure = trajectories.draw(rows)
    motions = trajectories.table(rows).set_index("τ")["‖w − w0‖/‖w0‖"]
    for ax, tau in zip(figure.axes, (0.1, 2.0), strict=True):
        assert len(ax.texts) == 3  # one arrow a teacher neuron
        assert f" = {motions[tau]:.2g} " in ax.get_title()
        ends = [line.get_xydata()[-1].tolist() for line in ax.lines[1:] if len(line.get_xydata())]
        last = rows[(rows.kind == "path") & (rows.tau == tau) & (rows.iteration == TINY.iterations)]
        for end in last[["x", "y"]].to_numpy().tolist():
            assert end in ends


def test_a_run_of_other_scales_is_judged_with_what_it_lacks_not_measured():
    rows = measured(TINY.model_copy(update={"tau": [0.1, 1.0]}))
    judgement = trajectories.judge(rows)
    missing = {finding.quantity for finding in judgement.findings if finding.verdict == "not measured"}
    assert missing == {trajectories.FIT, trajectories.LARGE_MOTION, trajectories.LARGE_SHARE}
    assert trajectories.table(rows)["τ"].tolist() == [0.1, 1.0]
    assert len(trajectories.draw(rows).axes) == 2
    assert len(trajectories.draw(rows[rows.tau == 0.1]).axes) == 1
