import pandas as pd
import pytest
import torch
from torch import nn

from regimes.errors import UserError
from regimes.experiments.control import contractive_robustness
from regimes.experiments.control.contractive_robustness import (
    ABOVE,
    APART,
    BROKEN,
    CERTIFIED,
    CLEAN,
    KEPT,
    Config,
    draw,
    judge,
    points,
    table,
)
from regimes.experiments.control.contractive_robustness.attacks import ascend, smallest_changes
from regimes.experiments.control.contractive_robustness.config import Task
from regimes.experiments.control.contractive_robustness.nets import build, need
from regimes.experiments.control.contractive_robustness.runs import attacked, measure
from regimes.models.residual import parameter_count

OBEYED = {"clean": 0.975, "plain": 0.972, "certified": 0.54, "kept": 0.8, "lost": 0.05, "broken": 0}


def made_up(**changed):
    said = OBEYED | changed
    rows = []
    for seed in range(4):
        off = 0.0005 * seed
        for epsilon in (0.5, 1.58):
            for net in ("contractive", "resnet"):
                own = net == "contractive"
                rows.append({
                    "dataset": "mnist", "seed": seed, "net": net, "epsilon": epsilon,
                    "clean": off + said["clean" if own else "plain"], "certified": said["certified"] if own else 0.0,
                    "certified_part": said["certified"] if own else 0.0, "broken": said["broken"],
                    "attacked": off + said["kept" if own else "lost"], "attacked_images": 100, "lipschitz": 1.4,
                    "weights": 10, "epochs": 2.0, "images": 100, "median_radius": 1.6, "steps": 5.0,
                })  # fmt: skip
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in judge(rows).findings}


def test_rows_that_obey_support_the_statement():
    assert judge(made_up()).verdict == "supported"


@pytest.mark.parametrize(("changed", "refuted"), [
    ({"broken": 1}, {BROKEN}),
    ({"clean": 0.96}, {CLEAN}),
    ({"certified": 0.45}, {CERTIFIED}),
    ({"lost": 0.9}, {KEPT}),
    ({"plain": 0.94}, {APART}),
])  # fmt: skip
def test_each_prediction_breaks_alone(changed, refuted):
    found = verdicts(made_up(**changed))
    assert {quantity for quantity, verdict in found.items() if verdict == "refuted"} == refuted
    assert {found[quantity] for quantity in set(found) - refuted} == {"supported"}


def test_certified_above_attacked_accuracy_is_shown_beside():
    assert judge(made_up(kept=0.5)).merits[ABOVE] == pytest.approx(0.04)


def test_seeds_that_agree_do_not_hide_that_few_images_were_attacked():
    for images, verdict in ((2000, "supported"), (100, "inconclusive")):
        rows = made_up(lost=0.55).assign(attacked_images=images)
        (found,) = [one for one in judge(rows).findings if one.quantity == KEPT]
        assert found.verdict == verdict
        assert found.value == pytest.approx(0.25)
        off = 1.96 * (0.65 / images - 0.25**2 / images) ** 0.5  # of accuracies 0.8 and 0.55
        assert found.measured == pytest.approx((0.25 - off, 0.25 + off), abs=1e-3)


def test_every_seed_attacks_its_own_images_and_every_net_the_same():
    task = Task(test_size=100, attacked=20)
    one, again, other = (attacked(task, 100, seed).tolist() for seed in (0, 0, 1))
    assert one == again
    assert set(one) != set(other)
    assert len({*one}) == len({*other}) == 20


def test_one_broken_image_refutes_whatever_the_others_do():
    rows = made_up()
    rows.loc[3, "broken"] = 1
    assert verdicts(rows)[BROKEN] == "refuted"


def test_table_and_figure_show_parts_of_the_rows():
    rows = made_up()
    assert len(table(rows)) == 4
    draw(rows)
    other = rows.assign(dataset="cifar10")
    assert table(other)["data"].str.contains("reduced").all()
    draw(pd.concat([rows, other[other.net == "contractive"]]))
    assert set(verdicts(other).values()) == {"supported", "not measured"}


def test_table_and_figure_tell_of_how_many_images_each_accuracy_is():
    rows = made_up().assign(images=10_000, attacked_images=300)
    assert set(table(rows)["test images"]) == {10_000}
    assert set(table(rows)["attacked images"]) == {300}
    figure = draw(rows[~((rows.net == "resnet") & (rows.seed > 0))])
    (words,) = [text.get_text().replace("\n", " ") for text in figure.texts if "MNIST" in text.get_text()]
    assert "10,000 test images, 300 attacked" in words
    assert "plain residual 1" in words
    for line in figure.axes[0].lines:  # no line joins accuracies of all images with those of the attacked ones
        assert (line.get_xdata()[0] == 0) == line.get_label().endswith(", certified") or line.get_label()[0] == "_"


def test_deel_has_its_own_number_of_seeds():
    config = Config(task=(Task(net=("contractive", "deel"), seeds=3, deel_seeds=1),))
    assert [point["net"] for point in points(config)] == ["contractive", "deel", "contractive", "contractive"]


@pytest.mark.parametrize("layers", ["convolutional", "dense"])
def test_a_plain_net_has_as_many_weights_as_the_contractive_one(layers):
    task = Task(layers=layers, filters=16, blocks=2, width=32, hidden=16)
    contractive, plain = (parameter_count(build(net, task, (1, 8, 8), 10)) for net in ("contractive", "resnet"))
    assert plain == pytest.approx(contractive, rel=0.1)


class Affine(nn.Module):
    """Two classes: a plane at distance 0.1 from the images, and a bias far from both."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]))

    def forward(self, x):
        return (x - 0.5).flatten(1) @ self.weight.mT.to(x.dtype)


def test_an_attack_on_an_affine_net_finds_the_distance_to_its_plane():
    x, labels = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.long)
    x[:, 0, 0, 0] = torch.tensor([0.6, 0.7, 0.4])  # at distances 0.1, 0.2, and wrong already
    found = smallest_changes(Affine(), x, labels, [0.11, 0.15, 0.21], [], 20)
    assert found[2] == 0
    assert 0.1 <= found[0] <= 0.11 + 1e-6
    assert 0.2 <= found[1] <= 0.21 + 1e-6
    assert smallest_changes(Affine(), x, labels, [0.05], [], 20)[0] == torch.inf


def test_an_attack_stays_in_its_ball_and_in_the_box():
    x = torch.rand(5, 1, 2, 2)
    changed = ascend(Affine(), x, torch.zeros(5, dtype=torch.long), 0.3, 7)
    assert float((changed - x).flatten(1).norm(dim=1).max()) <= 0.3
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1


@pytest.mark.slow
def test_attacks_of_foolbox_find_the_plane_too():
    pytest.importorskip("foolbox")
    x, labels = torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, dtype=torch.long)
    x[:, 0, 0, 0] = torch.tensor([0.6, 0.7])
    found = smallest_changes(Affine(), x, labels, [0.15, 0.25], ["pgd", "deepfool", "ddn"], 30)
    assert 0.1 <= found[0] <= 0.105
    assert 0.2 <= found[1] <= 0.21


@pytest.mark.slow
def test_no_certified_image_is_broken_and_a_stopped_training_goes_on(tmp_path, monkeypatch):
    config = Config(task=(Task(net=("contractive",), epochs=3),))
    whole = measure(config, points(config))
    for row in whole[0]:
        assert row["broken"] == 0
        assert row["certified_part"] <= row["attacked"]
        assert row["steps"] == 3 * 8
    assert measure(config, points(config), tmp_path) == whole
    assert measure(config, points(config), tmp_path) == whole  # from the end that was kept


@pytest.mark.slow
def test_the_net_of_deel_is_certified_by_the_bounds_here():
    pytest.importorskip("deel.torchlip")
    config = Config(task=(Task(net=("deel",), deel_epochs=4),))
    for row in measure(config, points(config))[0]:
        assert row["clean"] > 0.3
        assert 0.9 < row["lipschitz"] < 4  # rows of length 1 in the last layer: at most √10
        assert row["broken"] == 0


def test_a_library_that_is_missing_is_named_with_its_extra():
    with pytest.raises(UserError, match="extra `robustness`"):
        need("no_such_library")


def test_the_statement_is_found():
    assert contractive_robustness.RESUMABLE
