import copy
import pickle

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import relu
from torch.testing import assert_close

from regimes.models.build import build
from regimes.models.residual import Block, ResidualNet, Segment, Trace, as_trace, cloud, parameter_count
from regimes.transport.energy import transport_cost


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def linear(entry, width):
    return nn.Linear(entry, width, dtype=torch.float64)


@pytest.fixture
def net():
    """Two segments, 3 → 3 features and 3 → 2 → 2, the second with ReLU after the sum."""
    first = Segment([Block(linear(3, 3)), Block(linear(3, 3), scale=0.5)])
    second = Segment(
        [
            Block(linear(3, 2), shortcut=linear(3, 2), activation=relu),
            Block(linear(2, 2), activation=relu),
        ]
    )
    return ResidualNet(linear(4, 3), [first, second], linear(2, 5))


def test_states_steps_and_output_are_those_written_out(net):
    x = draw(6, 4)
    (a, b), (c, d) = (list(segment.blocks) for segment in net.segments)
    z0 = net.encoder(x)
    z1 = z0 + a.residual(z0)
    z2 = z1 + 0.5 * b.residual(z1)
    y0 = c.shortcut(z2)
    y1 = relu(y0 + c.residual(z2))
    y2 = relu(y1 + d.residual(y1))
    trace = net(x, trace=True)
    assert_close(trace.paths, ((z0, z1, z2), (y0, y1, y2)))
    assert_close(trace.steps, ((a.residual(z0), 0.5 * b.residual(z1)), (y1 - y0, y2 - y1)))
    assert_close(trace.output, net.head(y2))
    assert torch.equal(net(x), trace.output)
    assert len(trace.flat_steps) == 4
    assert trace.flat_steps[2] is trace.steps[1][0]


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("dense", {"width": 5}),
        ("resnet9", {"filters": 4, "blocks": 3}),
        ("resnet9", {"filters": 4, "blocks": 3, "batch_norm": False}),
        ("resnext50", {"cardinality": 2}),
        ("preact_resnet", {"depth": 14}),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_every_state_is_the_one_before_plus_the_step(arch, options, training):
    net = build(arch, (3, 8, 8), 4, **options).train(training)
    x = torch.randn(3, 3, 8, 8)
    trace = net(x, trace=True)
    after_sum = any(block.activation is not None for segment in net.segments for block in segment.blocks)
    for path, steps in zip(trace.paths, trace.steps, strict=True):
        assert len(path) == len(steps) + 1
        for before, after, step in zip(path[:-1], path[1:], steps, strict=True):
            if after_sum:
                assert_close(before + step, after)
            else:
                assert torch.equal(before + step, after)  # the block's own residual, no subtraction
    assert torch.equal(net(x), trace.output)


def test_the_scale_multiplies_the_residual_and_nothing_else():
    residual, z = linear(3, 3), draw(5, 3)
    moved = Block(residual, scale=0.25).move(z)
    assert_close(moved.step, 0.25 * residual(z))
    assert_close(moved.end, z + 0.25 * residual(z))
    assert moved.start is z
    assert_close(Block(residual, shortcut=nn.Identity(), scale=-2.0)(z), z - 2 * residual(z))
    with_activation = Block(residual, activation=relu, scale=0.25).move(z)
    assert_close(with_activation.end, relu(z + 0.25 * residual(z)))
    assert_close(with_activation.step, relu(z + 0.25 * residual(z)) - z)


def test_gradients_reach_states_through_the_trace(net):
    x = draw(6, 4)
    transport_cost(net(x, trace=True).flat_steps).backward()
    assert all(weight.grad is not None for weight in [*net.encoder.parameters(), *net.segments.parameters()])
    assert net.head.weight.grad is None


def test_a_segment_knows_whether_it_changes_space(net):
    assert [segment.changes_space for segment in net.segments] == [False, True]
    x = draw(6, 4)
    trace = net(x, trace=True)
    assert_close(cloud(trace, net, 0), trace.paths[0])
    assert_close(cloud(trace, net, -1), trace.paths[1][1:])
    assert_close(net.segment(0).transport(trace.paths[0][0]), trace.paths[0][-1])
    assert_close(net.segment(1).transport(cloud(trace, net, 1)[0]), trace.paths[1][-1])
    assert_close(net.segment(1)(trace.paths[0][-1]), trace.paths[1][-1])


def test_parts_that_do_not_fit_are_named(net):
    with pytest.raises(ValueError, match="at least one residual block"):
        Segment([])
    with pytest.raises(ValueError, match="only the first block of a segment may have a shortcut"):
        Segment([Block(linear(2, 2)), Block(linear(2, 2), shortcut=linear(2, 2))])
    for index in (2, -3):
        with pytest.raises(ValueError, match=f"has 2 segments, numbered from 0; got {index}"):
            net.segment(index)


def test_shared_parameters_count_once_and_frozen_ones_not(net):
    assert parameter_count(net) == sum(weight.numel() for weight in net.parameters())
    shared = Block(linear(3, 3))
    tied = ResidualNet(nn.Identity(), [Segment([shared, shared])], nn.Identity())
    assert parameter_count(tied) == 12
    assert len(tied(draw(2, 3), trace=True).flat_steps) == 2
    net.encoder.requires_grad_(False)
    assert parameter_count(net) == sum(weight.numel() for weight in net.parameters()) - 15


def test_an_output_is_a_trace_without_paths():
    output = torch.zeros(2, 3)
    assert as_trace(output) == Trace(output, (), ())
    trace = Trace(output, ((output,),), ((),))
    assert as_trace(trace) is trace


def test_a_trained_net_is_copied_and_pickled_whole():
    net = build("resnext50", (3, 8, 8), 3, cardinality=2)
    x = torch.randn(4, 3, 8, 8)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-5)
    trace = net(x, trace=True)
    (trace.output.square().mean() + transport_cost(trace.flat_steps)).backward()
    optimizer.step()
    net.eval()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(x), net(x))
        assert not {id(weight) for weight in twin.parameters()} & {id(weight) for weight in net.parameters()}


def test_memory_format_and_precision_are_the_callers():
    net, x = build("resnet9", (3, 8, 8), 4, filters=4, blocks=2).eval(), torch.randn(2, 3, 8, 8)
    truth = net(x, trace=True)
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    found = last(x.to(memory_format=torch.channels_last), trace=True)
    assert found.flat_steps[0].is_contiguous(memory_format=torch.channels_last)
    assert_close([found.output, *found.flat_steps], [truth.output, *truth.flat_steps])
    double = net.double()(x.double(), trace=True)
    assert all(step.dtype == torch.float64 for step in double.flat_steps)
    assert_close(double.output.float(), truth.output)


def test_steps_in_half_precision_are_measured_in_full(net):
    x = torch.randn(64, 3, 8, 8)
    model = build("resnet9", (3, 8, 8), 4, filters=8, blocks=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trace = model(x, trace=True)
        cost = transport_cost(trace.flat_steps)
    assert trace.flat_steps[0].dtype == torch.bfloat16
    assert cost.dtype == torch.float32
    assert_close(cost, sum(step.double().square().flatten(1).sum(1).mean() for step in trace.flat_steps).float())


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_the_data_parallel_wrapper_passes_traces_and_gradients(net, one_process):
    twin = copy.deepcopy(net)
    wrapped = nn.parallel.DistributedDataParallel(twin)
    x = draw(6, 4)
    gradients = []
    for model, weights in ((net, net), (wrapped, twin)):
        trace = model(x, trace=True)
        (trace.output.square().mean() + transport_cost(trace.flat_steps)).backward()
        gradients.append([weight.grad for weight in weights.parameters()])
    assert_close(gradients[0], gradients[1])
