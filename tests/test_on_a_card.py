"""What training does on a graphics card, tested without one: see `stand_in_card`."""

import pytest
import torch
from stand_in_card import CARD, stand_in_card

import regimes
from regimes.data.augment import compose, cutout, flip, random_crop
from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.experiments.least_action import cifar10_low_data, depth_without_batch_norm, mnist_low_data
from regimes.experiments.least_action.low_data import course as few_samples
from regimes.experiments.mean_field import mean_field_resnet
from regimes.lab.config import load
from regimes.lab.grid import grid_points
from regimes.machine import autocast
from regimes.models.build import build
from regimes.training.assemble import assemble, check
from regimes.training.config import TrainConfig
from regimes.training.ensemble import Ensemble, descend_together
from regimes.training.loop import descend
from regimes.training.metrics import evaluate
from regimes.training.objectives import LeastAction, Plain
from regimes.training.run import train_one

pytestmark = pytest.mark.slow

SMALL = ["dataset=digits", "device=cuda", "epochs=2", "train_size=64", "batch=32", "validation=16", "test_size=16"]
NET = ["arch=resnet9", "arch_options={filters: 4, blocks: 2}"]


@pytest.fixture
def card(monkeypatch):
    with stand_in_card(monkeypatch) as card:
        yield card


def settings(*overrides):
    return load(TrainConfig, overrides=[*SMALL, *NET, *overrides])


def test_the_stand_in_refuses_what_cuda_refuses_and_counts_what_waits(card):
    there, here = torch.ones(3, device="cuda"), torch.ones(3)
    assert there.device == (there * 2).device == CARD
    assert there.to("cpu").device == here.device
    assert (there * torch.tensor(2.0)).device == CARD  # a host number is no tensor of the host
    card.waits.clear()
    with pytest.raises(RuntimeError, match="mixes"):
        there + here
    with pytest.raises(RuntimeError, match="nonzero"):  # its shape is known to the card alone
        there[there > 0]
    assert there.sum().item() == 1
    assert there.tolist() == [1, 1, 1]
    assert bool(there.isfinite().all())
    assert sum(card.waits.values()) == 3
    here.to("cuda"), there.copy_(here), torch.tensor(2.0, device="cuda"), torch.as_tensor([1, 2], device="cuda")
    assert sum(card.waits.values()) == 7
    here.to("cuda", non_blocking=True), there.copy_(here, non_blocking=True), there.copy_(there), there.to("cuda")
    (
        torch.zeros(3, device="cuda"),
        torch.as_tensor(there, device="cuda"),
        there.fill_(2.0),
        torch.full((2,), 3.0, device="cuda"),
    )
    assert sum(card.waits.values()) == 7


@pytest.mark.parametrize(
    "overrides",
    [
        [], ["lap=true"], ["lap=true", "form=multiplied", "level=batch_after", "every=1"],
        ["lap=true", "level=running"], ["lap=true", "level=whole", "every=2"], ["bf16=true", "augment=true"],
        ["optimiser=adamw", "schedule=cosine"], ["channels_last=false", "nesterov=true"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_step_mixes_devices_or_waits_for_the_card(card, overrides):
    config = settings(*overrides)
    made = assemble(config)
    assert {tensor.device for tensor in made.training.model.state_dict().values()} == {CARD}
    card.waits.clear()
    steps = list(descend(made.training, made.batches, epochs=2, autocast=autocast("cuda", config.bf16)))
    assert len(steps) == 4
    assert {figure.device for step in steps for figure in step[2:6] if figure is not None} == {CARD}
    assert not card.waits


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_the_stand_in_needs_no_driver_where_torch_is_built_for_cuda(monkeypatch, optimiser):
    """There the optimisers of Adam's kind ask the accelerator's stream, in older versions CUDA's own, at each step."""

    def no_driver(*args):
        raise RuntimeError("Found no NVIDIA driver on your system")

    monkeypatch.setattr(torch._C, "_accelerator_getAccelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_stream", no_driver)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", no_driver)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    with stand_in_card(monkeypatch):
        made = assemble(settings(f"optimiser={optimiser}"))
        assert len(list(descend(made.training, made.batches, epochs=1))) == 2
    with pytest.raises(RuntimeError, match="no NVIDIA driver"):
        torch.accelerator.current_stream()


@pytest.mark.parametrize("sorting", ["never", "epoch", "forward"])
def test_sorting_particles_waits_once_a_stage_and_sorting(card, sorting):
    config = load(
        TrainConfig, overrides=[*SMALL, "arch=resnet20", "mean_field=true", "lap=true", f"tau_sort={sorting}"]
    )
    made = assemble(config)
    stages = 3
    card.waits.clear()
    epochs, steps = 1, len(list(descend(made.training, made.batches, epochs=1)))
    assert sum(card.waits.values()) == {"never": 0, "epoch": stages * epochs, "forward": stages * steps}[sorting]


@pytest.mark.parametrize("overrides", [["lap=true", "bf16=true"], ["mean_field=true", "arch=resnet20"]], ids=" ".join)
def test_a_whole_run_trains_saves_measures_and_draws_and_is_found_again(card, overrides, tmp_path):
    config = load(TrainConfig, overrides=[*SMALL, "checkpoint_seconds=0", *overrides])
    first = train_one(config, tmp_path / "run")
    assert first.result["device"].startswith("cuda")
    assert train_one(config, tmp_path / "run").result["best"]["epoch"] == first.result["best"]["epoch"]


@pytest.mark.parametrize(
    "objective",
    [Plain(), *(LeastAction(level=level) for level in ("batch", "running", "batch_after"))],
    ids=lambda made: f"{type(made).__name__} {getattr(made, 'level', '')}".strip(),
)
def test_an_ensemble_neither_mixes_devices_nor_waits(card, objective):
    members = [build("resnet9", (1, 8, 8), 10, filters=4, blocks=2).to("cuda") for _ in range(3)]
    samples = Labelled(torch.zeros(8, 1, 8, 8), torch.zeros(8, dtype=torch.long))
    ensemble = Ensemble(members)
    optimizer = torch.optim.SGD(ensemble.parameters(), 0.1, momentum=0.9, fused=True)
    batches = [Batches(Labelled(samples.x.to("cuda"), samples.labels.to("cuda")), 4, seed=seed) for seed in range(3)]
    card.waits.clear()
    steps = list(descend_together(ensemble, objective, optimizer, batches, epochs=1))
    assert [step.value.device for step in steps] == [CARD, CARD]
    assert not card.waits


@pytest.mark.parametrize(("given", "mode"), [("compile=true", None), ("cuda_graphs=true", "reduce-overhead")])
def test_the_compiler_is_asked_for_cuda_graphs_where_the_run_asks_for_them(card, monkeypatch, given, mode):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net, mode=None: asked.append(mode))
    assemble(settings(given))
    assert asked == [mode]


def test_cuda_graphs_are_refused_on_a_cpu():
    with pytest.raises(ValueError, match="needs device cuda"):
        check(settings("cuda_graphs=true", "device=cpu"))


def test_augmented_batches_are_made_on_the_card(card):
    samples = Labelled(torch.zeros(6, 3, 32, 32, dtype=torch.uint8), torch.zeros(6, dtype=torch.long))
    there = Labelled(samples.x.to("cuda"), samples.labels.to("cuda"))
    batches = Batches(there, 4, augment=compose(random_crop(4), flip(), cutout(8)))
    card.waits.clear()
    assert [(tuple(x.shape), x.device) for x, _ in batches.epoch(0)] == [((4, 3, 32, 32), CARD), ((2, 3, 32, 32), CARD)]
    assert not card.waits


def test_measuring_waits_as_often_for_many_batches_as_for_few(card):
    made = assemble(settings("lap=true"))
    waits = []
    for size in (8, 64):
        card.waits.clear()
        evaluate(made.training.model, Batches(made.data.train, size, normalise=made.data.normalise, shuffle=False))
        waits.append(sum(card.waits.values()))
    assert waits[0] == waits[1]


@pytest.mark.parametrize(
    ("experiment", "overrides"),
    [
        (cifar10_low_data, ["train_size=[60]", "arm=[lap]", "training={epochs: 1}"]),
        (mean_field_resnet, []),
        (mnist_low_data, ["train_size=[60]", "arm=[lap]", "epochs=1", "first_look=1"]),
        (depth_without_batch_norm, ["train_size=[60]", "arm=[lap_divided]", "training={epochs: 1}"]),
    ],
    ids=lambda given: getattr(given, "__name__", "").rpartition(".")[2],
)
def test_statements_measure_on_the_card(card, monkeypatch, experiment, overrides):
    monkeypatch.setattr(few_samples, "update_bn", lambda batches, model: None)  # divides by a count, which reads 0
    config = load(experiment.Config, overrides=["device=cuda", *overrides])
    assert len(experiment.measure(config, grid_points(experiment, config)[:1])) == 1


def test_what_users_import_stays_where_its_input_lies(card):
    net = build("resnet9", (1, 8, 8), 10, filters=4, blocks=2).to("cuda").eval()
    x = torch.zeros(6, 1, 8, 8, device="cuda")
    made = [regimes.linearize(net), regimes.Centred(net, alpha=10.0), regimes.Doubled(net)]
    found = [model(x) for model in made] + [regimes.ntk(net, x, x[:3], outputs="full"), regimes.ntk(net, x)]
    found.append(regimes.trace_residuals(net, blocks="segments.0.blocks.?")(x).output)
    assert {tensor.device for tensor in found} == {CARD}
    assert regimes.ot_gap(x.flatten(1), x.flatten(1)).gap == 0  # of what is read


def test_seeds_of_a_table_are_trained_side_by_side_on_the_card(card):
    own = ["device=cuda", "ensemble=2", "bf16=true", "train_size=[60]", "arm=[lap]", "training={epochs: 1}"]
    config = load(cifar10_low_data.Config, overrides=own)
    assert len(cifar10_low_data.measure(config, grid_points(cifar10_low_data, config))) == 2
