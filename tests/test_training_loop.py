import copy
import io
import weakref
from itertools import islice

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.data.augment import flip
from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.models.build import build
from regimes.models.initialise import initialise, kaiming
from regimes.training.loop import Training, descend, whole_risk
from regimes.training.objectives import LEVELS, LeastAction, Plain
from regimes.transport.energy import mean_over_features, transport_cost


def data(samples=14, seed=0):
    rng = generator(seed, 5)
    return Labelled(torch.randn(samples, 1, 6, 6, generator=rng), torch.randint(0, 3, (samples,), generator=rng))


def images(samples=14, size=4, **options):
    """Batches of random images: three of 4 and one of 2, unless said."""
    return Batches(data(samples), size, seed=1, **options)


def network():
    """A small ResNet9 with batch norm in its blocks and its head."""
    net = build("resnet9", (1, 6, 6), 3, filters=4, blocks=2)
    return initialise(net, kaiming, generator=generator(0))


def sgd(net):
    return torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)


def training(objective=None, *, net=None, optimizer=sgd, schedule=False):
    net = network() if net is None else net
    optimizer = optimizer(net)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2], gamma=0.1) if schedule else None
    return Training(net, objective or LeastAction(growth=0.3), optimizer, scheduler)


def everything(run):
    """All numbers of a run: weights, batch-norm statistics, momenta, λ."""
    moments = [value for entry in run.optimizer.state.values() for value in entry.values() if value is not None]
    return [*run.model.state_dict().values(), *moments, *run.objective.state_dict().values()]


def equal(one, other):
    pairs = zip(everything(one), everything(other), strict=True)
    return all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs)


def test_plain_training_is_the_loop_one_would_write():
    run, batches = training(Plain()), images()
    steps = list(descend(run, batches, epochs=2))
    net = network()
    optimizer = sgd(net)
    seen = []
    for epoch in range(2):
        for x, labels in batches.epoch(epoch):
            net.train()
            output = net(x)
            loss = cross_entropy(output, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.append((loss.detach(), (output.argmax(1) == labels).sum(), len(labels)))
    assert all(
        torch.equal(a, b) for a, b in zip(run.model.state_dict().values(), net.state_dict().values(), strict=True)
    )
    assert [(step.value, step.correct, step.samples) for step in steps] == seen
    assert [(step.epoch, step.number) for step in steps] == [(epoch, number) for epoch in (0, 1) for number in range(4)]
    assert all(step.risk == step.value and step.transport is None for step in steps)
    assert (run.epoch, run.step) == (2, 0)


@pytest.mark.parametrize("growth", [0.0, 0.7])
def test_least_action_is_the_loop_one_would_write(growth):
    run, batches = training(LeastAction(multiplier=0.5, growth=growth, every=2)), images()
    steps = list(islice(descend(run, batches, epochs=9), 5))
    net, multiplier = network(), torch.tensor(0.5, dtype=torch.float64)
    optimizer = sgd(net)
    for number, (x, labels) in enumerate([*batches.epoch(0), *batches.epoch(1)][:5]):
        trace = net(x, trace=True)
        risk = cross_entropy(trace.output, labels)
        cost = transport_cost(trace.flat_steps, convention=mean_over_features)
        if number % 2 == 0:
            multiplier = multiplier + growth * risk.detach().double()
        loss = risk + cost / multiplier.float()  # growth 0: the plain loss and a fixed penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        near = {"rtol": 1e-5, "atol": 1e-5}  # the trainer adds the cost's gradient in one rounding in place of two
        assert_close(steps[number].value, loss.detach(), **near)
        assert_close(steps[number].transport, cost.detach(), **near)
        assert_close(steps[number].risk, risk.detach(), **near)
    assert_close(dict(run.model.state_dict()), dict(net.state_dict()), **near)
    assert_close(run.objective.multiplier, multiplier, **near)


def test_the_penalty_shortens_the_steps():
    costs = {}
    for multiplier in (0.3, 1e6):
        *_, last = descend(training(LeastAction(multiplier=multiplier, growth=0.0)), images(), epochs=5)
        costs[multiplier] = last.transport
    assert costs[0.3] < costs[1e6] / 2


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("optimizer", [sgd, lambda net: torch.optim.Adam(net.parameters(), lr=0.01)])
def test_a_run_resumed_at_any_step_is_the_run_undisturbed(level, optimizer):
    def start():
        return training(LeastAction(growth=0.3, every=3, level=level), optimizer=optimizer, schedule=True)

    batches, whole = images(augment=flip()), start()
    files, ahead = [], []
    for step in descend(whole, batches, epochs=2):
        file = io.BytesIO()
        torch.save(whole.state_dict(), file)
        files.append(file)
        ahead.append(step)
    for number, file in enumerate(files):
        file.seek(0)
        resumed = start()
        resumed.load_state_dict(torch.load(file, weights_only=True))
        rest = list(descend(resumed, batches, epochs=2))
        assert [step.value for step in rest] == [step.value for step in ahead[number + 1 :]]
        assert equal(resumed, whole)
        assert resumed.scheduler.state_dict() == whole.scheduler.state_dict()


def test_a_run_goes_on_with_more_epochs():
    once, twice = training(), training()
    list(descend(once, images(), epochs=2))
    list(descend(twice, images(), epochs=1))
    list(descend(twice, images(), epochs=2))
    assert equal(once, twice)
    assert list(descend(twice, images(), epochs=2)) == []


def test_stopping_in_between_loses_nothing():
    stopped, whole = training(), training()
    list(islice(descend(stopped, images(), epochs=2), 3))
    assert (stopped.epoch, stopped.step) == (0, 3)
    list(descend(stopped, images(), epochs=2))
    list(descend(whole, images(), epochs=2))
    assert equal(stopped, whole)


def test_what_the_caller_measures_between_steps_changes_nothing():
    watched, alone, batches = training(), training(), images()
    for _ in descend(watched, batches, epochs=2):
        watched.model.eval()
        with torch.no_grad():
            watched.model(batches.data.x, trace=True)
        watched.objective.loss(watched.model(batches.data.x, trace=True), batches.data.labels)
    list(descend(alone, batches, epochs=2))
    assert equal(watched, alone)


class Watched(nn.Module):
    """The network, with weak references to what each call was given and has returned."""

    def __init__(self):
        super().__init__()
        self.net, self.seen, self.alive = network(), [], []

    def forward(self, x, trace=False):
        self.alive.append(sum(one() is not None for one in self.seen))
        self.alive[-1] += sum(weight.grad is not None for weight in self.net.parameters())
        output = self.net(x, trace=trace)
        states = (
            [output] if not trace else [output.output, *output.flat_steps, *(z for path in output.paths for z in path)]
        )
        self.seen = [weakref.ref(tensor) for tensor in (x, *states)]
        return output


@pytest.mark.parametrize("objective", [Plain(), LeastAction(), LeastAction(level="running", form="multiplied")])
def test_nothing_of_a_step_is_held_through_the_next(objective):
    net = Watched()
    batches = images(normalise=lambda x: x + 0)
    kept = list(descend(training(objective, net=net), batches, epochs=2))
    assert len(kept) == len(net.alive) == 8
    assert net.alive == [0] * 8


def test_the_mode_is_set_once_and_again_only_where_the_caller_has_changed_it(monkeypatch):
    run = training()
    calls, real = [], nn.Module.train
    monkeypatch.setattr(type(run.model), "train", lambda net, mode=True: calls.append(mode) or real(net, mode))
    for step in descend(run, images(), epochs=2):
        assert run.model.training
        if (step.epoch, step.number) == (0, 2):
            run.model.eval()
    assert calls == [True, False, True]


def test_the_caller_may_go_back_to_a_saved_state():
    back, alone = training(), training()
    saved, visits = None, []
    for step in descend(back, images(), epochs=2):
        visits.append((step.epoch, step.number))
        if len(visits) == 2:
            saved = copy.deepcopy(back.state_dict())
        if len(visits) == 5:
            back.load_state_dict(saved)
    assert visits == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3)]
    list(descend(alone, images(), epochs=2))
    assert equal(back, alone)


def test_the_schedule_moves_at_the_end_of_an_epoch():
    run = training(schedule=True)
    rates = [run.optimizer.param_groups[0]["lr"] for _ in descend(run, images(), epochs=3)]
    assert_close(rates, [0.05] * 3 + [0.005] * 4 + [0.0005] * 5)  # at a yield the rate is that of the next step


def test_the_risk_measured_after_the_step_is_that_of_the_same_batch_and_the_new_weights():
    run, batches = training(LeastAction(multiplier=1.0, growth=0.5, level="batch_after")), images()
    next(descend(run, batches, epochs=1))
    x, labels = next(iter(batches.epoch(0)))
    twin = copy.deepcopy(run.model).train()
    assert_close(run.objective.multiplier, 1 + 0.5 * cross_entropy(twin(x), labels).detach().double())


def test_risks_measured_after_the_step_leave_no_mark_on_the_network():
    runs = {level: training(LeastAction(growth=0.0, level=level)) for level in LEVELS}
    for run in runs.values():
        list(descend(run, images(), epochs=2))
    first = runs["batch"].model.state_dict()
    for run in runs.values():  # with growth 0 all levels are one method: weights and statistics are equal bit for bit
        assert all(map(torch.equal, run.model.state_dict().values(), first.values()))
    assert first["head.2.num_batches_tracked"] == 8


def test_other_running_statistics_are_left_alone_too():
    """Spectral norm improves its vectors at every forward pass in training mode."""

    def normed():
        net = network()
        nn.utils.parametrizations.spectral_norm(net.head[1])
        return net

    torch.manual_seed(0)
    one = training(LeastAction(growth=0.0, level="batch_after"), net=normed())
    torch.manual_seed(0)
    other = training(LeastAction(growth=0.0), net=normed())
    for run in (one, other):
        list(descend(run, images(), epochs=1))
    assert all(map(torch.equal, one.model.state_dict().values(), other.model.state_dict().values()))


@pytest.mark.parametrize("samples", [12, 13])
def test_the_whole_set_is_all_of_it_as_it_is(samples):
    batches = images(samples, augment=flip(1.0), normalise=lambda x: 2 * x)
    assert len(batches) == 3  # of 13 samples an epoch leaves one out
    net = initialise(build("dense", (1, 6, 6), 3, blocks=2, width=6), kaiming, generator=generator(0))
    run = training(LeastAction(multiplier=1.0, growth=0.5, level="whole"), net=net)
    next(descend(run, batches, epochs=1))
    twin = copy.deepcopy(run.model).eval()
    truth = cross_entropy(twin(2 * batches.data.x), batches.data.labels).detach().double()
    assert_close(run.objective.multiplier, 1 + 0.5 * truth, atol=0, rtol=1e-6)  # the network is in float32
    assert_close(whole_risk(run, batches.shard(0, 2), torch.autocast("cpu", enabled=False)), truth, atol=0, rtol=1e-6)


class OwnNorm(nn.Module):
    """Batch norm written by hand, of no class that torch knows."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(features))

    def forward(self, x):
        mean = x.mean((0, 2, 3)) if self.training else self.running_mean
        if self.training:
            self.running_mean.lerp_(mean.detach(), 0.1)
        return x - mean[:, None, None]


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, OwnNorm])
def test_the_whole_risk_is_that_of_the_present_weights_where_running_statistics_are_of_others(norm):
    net = network()
    net.encoder = nn.Sequential(nn.Dropout(0.5), net.encoder, norm(4))
    run, batches = training(LeastAction(multiplier=1.0, growth=0.5, level="whole"), net=net), images(12)
    with torch.no_grad():
        for module in net.modules():
            if getattr(module, "running_mean", None) is not None:
                module.running_mean.fill_(30.0)  # of weights long gone
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = whole_risk(run, batches, torch.autocast("cpu", enabled=False))
    assert all(map(torch.equal, net.state_dict().values(), before.values()))
    twin = copy.deepcopy(net).train()
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    truth = sum(cross_entropy(twin(x), y).detach().double() * len(y) for x, y in batches.epoch(0)) / 12
    assert_close(found, truth, atol=1e-6, rtol=0)  # the network is in float32
    stale = cross_entropy(copy.deepcopy(net).eval()(batches.data.x), batches.data.labels)
    assert stale > 1.5 * found  # so that one can be told from the other


@pytest.mark.parametrize("broken", [False, True])
def test_the_whole_risk_leaves_every_mode_as_it_was(broken):
    run, batches = training(), images()
    run.model.train()
    run.model.encoder.eval()
    modes = [module.training for module in run.model.modules()]
    if broken:
        run.model.head = nn.Linear(1, 1)
        modes = [module.training for module in run.model.modules()]
        with pytest.raises(RuntimeError):
            whole_risk(run, batches, torch.autocast("cpu", enabled=False))
    else:
        whole_risk(run, batches, torch.autocast("cpu", enabled=False))
    assert [module.training for module in run.model.modules()] == modes


@pytest.mark.parametrize(("samples", "sizes"), [(8, [4, 4]), (9, [4, 4]), (10, [4, 4, 2]), (3, [3])])
def test_last_batches_are_kept_unless_they_are_one_sample(samples, sizes):
    steps = list(descend(training(), images(samples), epochs=1))
    assert [step.samples for step in steps] == sizes


@pytest.mark.parametrize("level", LEVELS)
def test_bfloat16_trains_weights_that_stay_in_float32(level):
    run = training(LeastAction(growth=0.3, level=level))
    steps = list(descend(run, images(), epochs=2, autocast=torch.autocast("cpu", dtype=torch.bfloat16)))
    assert all(weight.dtype == torch.float32 for weight in run.model.parameters())
    assert all(step.value.isfinite() and step.value.dtype == torch.float32 for step in steps)
    full = training(LeastAction(growth=0.3, level=level))
    first = next(descend(full, images(), epochs=2))
    assert_close(steps[0].risk, first.risk, rtol=0.05, atol=0)  # eight bits of mantissa through a few layers
    assert_close(steps[0].transport, first.transport, rtol=0.05, atol=0)
    assert steps[0].risk != first.risk


def test_the_state_names_its_parts():
    run = training(Plain())
    state = run.state_dict()
    assert state["scheduler"] is None
    assert set(state) == {"model", "objective", "optimizer", "scheduler", "epoch", "step"}
    assert state["objective"] == {}


def test_batches_of_another_size_do_not_fit_a_position():
    run = training()
    list(islice(descend(run, images(), epochs=1), 3))
    with pytest.raises(ValueError, match=r"start in 0..2; got 3. Was it saved with another size"):
        next(descend(run, images(size=7), epochs=1))


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("level", LEVELS)
def test_one_data_parallel_process_is_no_process(one_process, level):
    net = network()
    wrapped = training(LeastAction(growth=0.3, level=level), net=nn.parallel.DistributedDataParallel(net))
    alone = training(LeastAction(growth=0.3, level=level))
    for run in (wrapped, alone):
        list(descend(run, images(), epochs=2))
    assert_close(list(net.state_dict().values()), list(alone.model.state_dict().values()))
    assert_close(wrapped.objective.multiplier, alone.objective.multiplier)
