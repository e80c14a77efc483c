"""Members trained together are the members trained alone."""

import weakref

import pytest
import torch
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.data.batches import Batches
from regimes.data.classification import classification
from regimes.models.build import build
from regimes.models.initialise import initialise, orthogonal
from regimes.models.timed import timed, timed_segments
from regimes.training.assemble import clip_before_steps
from regimes.training.ensemble import Ensemble, descend_together
from regimes.training.loop import Training, descend
from regimes.training.objectives import LeastAction, Plain, multiplied

MEMBERS, STEPS = 8, 50
NETS = {
    "dense": ("circles", {"batch_norm": True, "blocks": 3}, 10),
    "resnet9": ("digits", {"filters": 4, "blocks": 2}, 16),
}
OBJECTIVES = {
    "plain": Plain,
    "divided": lambda: LeastAction(growth=1.0, every=2),
    "multiplied": lambda: LeastAction(growth=1.0, every=2, form=multiplied, level="running"),
    "whole": lambda: LeastAction(growth=0.1, every=10, level="whole"),
    "measured again": lambda: LeastAction(growth=1.0, every=2, form=multiplied, level="batch_after"),
}


def prepared(arch, members=MEMBERS, train_size=100):
    dataset, options, size = NETS[arch]
    data = [classification(dataset, seed=seed, train_size=train_size) for seed in range(members)]
    batches = [Batches(own.train, size, seed=seed, normalise=own.normalise) for seed, own in enumerate(data)]
    for own in batches:
        own.normalise = lambda x, inner=own.normalise: inner(x).double()
    x = torch.stack([next(own.epoch(0))[0] for own in batches])

    def net(seed):
        made = build(arch, tuple(x.shape[2:]), data[0].classes, **options).double()
        return initialise(made, orthogonal, 0.1, generator=generator(seed))

    return net, batches, x


def sgd(module):
    return torch.optim.SGD(module.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)


def adam(module):
    return torch.optim.Adam(module.parameters(), 0.001)


def together(net, batches, objective, optimizer, steps=STEPS):
    ensemble = Ensemble([net(seed) for seed in range(len(batches))])
    for _, step in zip(
        range(steps), descend_together(ensemble, objective, optimizer(ensemble), batches, epochs=99), strict=False
    ):
        last = step
    return ensemble, last


@pytest.mark.parametrize("optimizer", [sgd, adam])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("arch", ["dense", pytest.param("resnet9", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_each_member_is_its_single_run(arch, objective, optimizer):
    net, batches, x = prepared(arch)
    make = OBJECTIVES[objective]
    shared = make()
    ensemble, last = together(net, batches, shared, optimizer)
    for seed in (0, MEMBERS - 1):
        model = net(seed)
        training = Training(model, make(), optimizer(model))
        for _, step in zip(range(STEPS), descend(training, batches[seed], epochs=99), strict=False):
            alone = step
        assert_close(ensemble.member(seed).eval()(x[seed]), model.eval()(x[seed]), rtol=1e-5, atol=1e-5)
        assert_close(last.risk[seed], alone.risk, rtol=1e-5, atol=1e-5)
        if isinstance(shared, LeastAction):
            assert_close(last.transport[seed], alone.transport, rtol=1e-5, atol=1e-5)
        assert last.correct[seed] == alone.correct
        if isinstance(shared, LeastAction):
            assert_close(shared.multiplier[seed], training.objective.multiplier, rtol=1e-6, atol=0)


def test_members_differ_from_each_other():
    net, batches, _ = prepared("dense")
    _, last = together(net, batches, Plain(), sgd, steps=5)
    assert len(last.risk.unique()) == MEMBERS


def test_batch_norm_keeps_statistics_for_each_member():
    net, batches, _ = prepared("dense")
    ensemble, _ = together(net, batches, Plain(), sgd, steps=3)
    statistics = [ensemble.member(seed).state_dict() for seed in range(2)]
    name = next(name for name in statistics[0] if name.endswith("running_mean"))
    assert not torch.allclose(statistics[0][name], statistics[1][name])
    assert statistics[0][name.replace("running_mean", "num_batches_tracked")] == 3


def test_a_trace_of_the_ensemble_stacks_those_of_its_members():
    net, _, x = prepared("resnet9", members=2)
    ensemble = Ensemble([net(0), net(1)]).eval()
    trace = ensemble(x, trace=True)
    single = net(1).eval()(x[1], trace=True)
    assert_close(trace.output[1], single.output)
    for stacked, own in zip(trace.paths[0], single.paths[0], strict=True):
        assert_close(stacked[1], own)


def with_times(*times, blocks=3, **options):
    """A net whose blocks have these times, for each of the rows, with weights of its own."""
    made = []
    for seed, own in enumerate(times):
        net = timed(build("dense", (2,), 2, blocks=blocks, width=4, batch_norm=True), **options).double()
        made.append(initialise(net, orthogonal, 1.0, generator=generator(seed)))
        with torch.no_grad():
            net.segment(0).times.copy_(torch.tensor(own))
    return made


ORDERS = ([0.3, 0.6, 0.9], [0.9, 0.3, 0.6], [0.2, 0.5, 0.8], [0.9, 0.2, 0.5])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("orders", [ORDERS, ORDERS[::2]], ids=["two orders", "one order"])
def test_members_whose_blocks_act_in_other_orders_are_themselves(orders, training):
    nets, x = with_times(*orders), torch.randn(len(orders), 8, 2, dtype=torch.float64)
    ensemble = Ensemble(nets).train(training)
    trace = ensemble(x, trace=True)
    alone = [net.train(training)(own, trace=True) for net, own in zip(nets, x, strict=True)]
    for number, single in enumerate(alone):
        assert_close(trace.output[number], single.output)
        assert_close([step[number] for step in trace.flat_steps], single.flat_steps)
        assert_close([state[number] for state in trace.paths[0]], list(single.paths[0]))
        member = ensemble.member(number)
        assert_close(dict(member.state_dict()), dict(nets[number].state_dict()))
        assert_close(member.eval()(x[number]), nets[number].eval()(x[number]))
    gradients = torch.autograd.grad(trace.output.square().sum(), list(ensemble.parameters()))
    expected = [
        torch.autograd.grad(single.output.square().sum(), list(net.parameters()))
        for net, single in zip(nets, alone, strict=True)
    ]
    assert_close(list(gradients), [torch.stack(own) for own in zip(*expected, strict=True)])


def test_each_segment_of_a_member_has_its_own_order():
    def net(*orders):
        made = timed(build("preact_resnet", (1, 8, 8), 3, depth=20), sorting="epoch").double().eval()
        for segment, order in zip(timed_segments(made), orders, strict=True):
            with torch.no_grad():
                segment.times.copy_(torch.tensor(order).argsort() / len(order))
            segment.sort()
            assert segment.orders() == order
        return made

    nets = [net([0, 2, 1], [1, 0], [0, 1]), net([0, 1, 2], [1, 0], [1, 0]), net([0, 2, 1], [1, 0], [1, 0])]
    x = torch.randn(3, 2, 1, 8, 8, dtype=torch.float64)
    found = Ensemble(nets).eval()(x)
    assert_close(found, torch.stack([one(own) for one, own in zip(nets, x, strict=True)]))


def test_the_joint_gradient_of_the_times_is_shortened_for_each_member():
    times = [torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(2, 1))]
    optimiser = torch.optim.SGD(times, 1.0)
    clip_before_steps(optimiser, times, 0.5)
    times[0].grad = torch.tensor([[3.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
    times[1].grad = torch.tensor([[4.0], [0.2]])
    optimiser.step()
    assert_close(times[0].detach(), torch.tensor([[-0.3, 0.0, 0.0], [-0.1, 0.0, 0.0]]))
    assert_close(times[1].detach(), torch.tensor([[-0.4], [-0.2]]))
    alone = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(1))]
    optimiser = torch.optim.SGD(alone, 1.0)
    clip_before_steps(optimiser, alone, 0.5)
    alone[0].grad, alone[1].grad = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([4.0])
    optimiser.step()
    assert_close(alone[0].detach(), times[0][0].detach())


def test_the_ensemble_state_can_be_saved_and_restored():
    net, batches, x = prepared("dense", members=2)
    ensemble, _ = together(net, batches, Plain(), sgd, steps=2)
    other = Ensemble([net(5), net(6)])
    other.load_state_dict(ensemble.state_dict())
    assert torch.equal(other.eval()(x), ensemble.eval()(x))


def test_to_measure_again_leaves_the_statistics_of_batch_norm_alone():
    net, batches, _ = prepared("dense", members=2)
    ensemble, _ = together(net, batches, LeastAction(level="batch_after", every=1), sgd, steps=3)
    seen = [value for name, value in ensemble.member(1).state_dict().items() if name.endswith("num_batches_tracked")]
    assert {int(value) for value in seen} == {3}


def test_a_member_that_diverges_leaves_the_others_alone():
    net, batches, x = prepared("resnet9", members=3)

    def broken(seed):
        made = net(seed)
        if seed == 1:
            torch.nn.init.constant_(next(made.parameters()), torch.nan)
        return made

    ends = [together(start, batches, LeastAction(level="batch_after"), sgd, steps=4) for start in (net, broken)]
    assert ends[1][1].risk.isnan().tolist() == [False, True, False]
    for seed in (0, 2):
        outputs = [ensemble.member(seed).eval()(x[seed]) for ensemble, _ in ends]
        assert_close(outputs[1], outputs[0])


def test_products_in_bfloat16_are_those_of_single_runs():
    ends = {}
    for bf16 in (False, True):
        net, batches, _ = prepared("resnet9", members=2)
        for own in batches:
            own.normalise = lambda x, inner=own.normalise: inner(x).float()
        context = torch.autocast("cpu", torch.bfloat16) if bf16 else None
        ensemble = Ensemble([net(seed).float() for seed in range(2)])
        objective = LeastAction(every=2, level="batch_after")
        steps = descend_together(ensemble, objective, sgd(ensemble), batches, epochs=1, autocast=context)
        *_, last = steps
        model = net(1).float()
        single = Training(model, LeastAction(every=2, level="batch_after"), sgd(model))
        *_, alone = descend(single, batches[1], epochs=1, autocast=context)
        ends[bf16] = last.risk[1], alone.risk
        assert all(parameter.dtype == torch.float32 for parameter in ensemble.parameters())
    assert_close(*ends[False], rtol=1e-4, atol=0)
    assert_close(*ends[True], rtol=0.02, atol=0)  # 8 digits of 2 in each product, 7 steps
    assert ends[False][0] != ends[True][0]


def test_batches_of_other_number_or_size_are_refused():
    net, batches, _ = prepared("dense", members=2)
    with pytest.raises(ValueError, match="one number and size"):
        next(descend_together(Ensemble([net(0)]), Plain(), sgd(net(0)), batches, epochs=1))
    shorter = [batches[0], Batches(batches[1].data, 5)]
    with pytest.raises(ValueError, match="one number and size"):
        next(descend_together(Ensemble([net(0), net(1)]), Plain(), sgd(net(0)), shorter, epochs=1))


def test_no_members_are_refused():
    with pytest.raises(ValueError, match="at least one network"):
        Ensemble([])


@pytest.mark.parametrize("objective", [Plain(), LeastAction()])
def test_nothing_of_a_step_is_held_through_the_next(objective):
    net, batches, _ = prepared("resnet9", members=2, train_size=40)
    ensemble, seen, alive = Ensemble([net(seed) for seed in range(2)]), [], []

    def before(module, inputs):
        alive.append(sum(one() is not None for one in seen) + sum(w.grad is not None for w in module.parameters()))

    def after(module, inputs, output):
        states = [output.output, *output.flat_steps] if objective.traced else [output]
        seen[:] = [weakref.ref(tensor) for tensor in (*inputs, *states)]

    ensemble.register_forward_pre_hook(before)
    ensemble.register_forward_hook(after)
    steps = list(descend_together(ensemble, objective, sgd(ensemble), batches, epochs=2))
    assert len(steps) == len(alive) == 6
    assert alive == [0] * 6
