"""Segments that rebuild their states: values, gradients, norms and traces beside those of stored states."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes.errors import RunFailed
from regimes.models.blocks import basic, dense, resnext
from regimes.models.build import build
from regimes.models.hamiltonian_blocks import hamiltonian_dense
from regimes.models.rebuilding import increment
from regimes.models.residual import Block, ResidualNet, Segment
from regimes.models.reversible import ReversibleSegment, reversible
from regimes.models.timed import timed
from regimes.training.objectives import LeastAction, Plain

F64 = torch.float64
BLOCKS = {
    "dense": (lambda: Block(dense(4)), (4,)),
    "dense, batch norm": (lambda: Block(dense(4, batch_norm=True), scale=0.5), (4,)),
    "basic": (lambda: Block(basic(2)), (2, 5, 5)),
    "activation after the sum": (lambda: resnext(8, 2, cardinality=1, width=64), (8, 3, 3)),
}


class Stored(ReversibleSegment):
    """The same computation, with everything kept."""

    def _rebuilds(self, z):
        return False


def nets(name, depth=4):
    """The reversible net, the same with states stored, and inputs."""
    make, shape = BLOCKS[name]
    torch.manual_seed(3)
    own = ResidualNet(nn.Identity(), [ReversibleSegment([make() for _ in range(depth)])], nn.Flatten()).double()
    stored = copy.deepcopy(own)
    stored.segments[0].__class__ = Stored
    return own, stored, torch.randn(6, *shape, dtype=F64, requires_grad=True)


def gradients(net, x, objective):
    net.zero_grad()
    output = net(x, trace=True) if objective.traced else net(x)
    objective(output, torch.zeros(len(x), dtype=torch.long)).value.backward()
    found = [x.grad, *(each.grad for each in net.parameters())]
    x.grad = None
    return found


@pytest.mark.parametrize("objective", [Plain, LeastAction])
@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_are_those_of_stored_states(name, objective):
    own, stored, x = nets(name)
    for one, other in zip(*(gradients(net, x, objective()) for net in (own, stored)), strict=True):
        assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", BLOCKS)
def test_values_and_squares_are_those_of_stored_states(name):
    own, stored, x = nets(name)
    one, other = own(x, trace=True), stored(x, trace=True)
    assert_close(one.output, other.output)
    assert_close(torch.stack(one.flat_squares), torch.stack(other.flat_squares))
    assert_close(one.paths[0][0], other.paths[0][0])
    assert_close(one.paths[0][-1], other.paths[0][-1])
    with torch.no_grad():
        assert_close(own(x, trace=True).flat_steps[1], other.flat_steps[1])  # nothing to rebuild: all is there


def test_batch_norms_take_in_the_batch_on_the_way_forward_alone():
    own, stored, x = nets("basic")
    for net in (own, stored):
        gradients(net, x, Plain())
    for (name, one), other in zip(own.named_buffers(), stored.buffers(), strict=True):
        assert_close(one, other, msg=name)
    assert own.segments[0].blocks[0].residual[0].num_batches_tracked == 2  # once for each copy


def test_a_first_block_from_another_space_is_run_as_it_is():
    torch.manual_seed(0)
    plain = build("resnet20", (3, 8, 8), 4).double()
    own = reversible(plain)
    x, grads = torch.randn(4, 3, 8, 8, dtype=F64), []
    for stored in (False, True):
        for segment in own.segments:
            segment.__class__ = Stored if stored else ReversibleSegment
        own.zero_grad()
        LeastAction()(own(x, trace=True), torch.arange(4)).value.backward()
        grads.append([each.grad.clone() for each in own.parameters()])
    for one, other in zip(*grads, strict=True):
        assert_close(one, other, rtol=1e-8, atol=1e-10)


class Shear(Block):
    """(a, b) ↦ (a, b + W a), which has an inverse."""

    def __init__(self):
        super().__init__(nn.Linear(2, 2))

    def _summands(self, z, weight=None):
        return z, torch.cat([torch.zeros_like(z[:, :2]), self.residual(z[:, :2])], 1), weight

    def inverse(self, z):
        return z - self._summands(z)[1]


def test_blocks_with_an_inverse_compute_what_they_did():
    blocks = [Shear() for _ in range(3)]
    plain = ResidualNet(nn.Identity(), [Segment(blocks)], nn.Flatten()).double()
    own, x = reversible(plain), torch.randn(5, 4, dtype=F64, requires_grad=True)
    assert own.segment(0).exact
    assert_close(own(x), plain(x))
    for objective in (Plain, LeastAction):
        for one, other in zip(*(gradients(net, x, objective()) for net in (own, plain)), strict=True):
            assert_close(one, other)


def kept(depth, make):
    """Bytes that the graph of a training pass keeps, each tensor once."""
    net = make(depth)
    seen = {}
    weights = {each.data_ptr() for each in net.parameters()}

    def pack(each):
        if each.data_ptr() not in weights:
            seen[each.data_ptr()] = each.numel() * each.element_size()
        return each

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda each: each):
        LeastAction()(net(torch.randn(8, 1, 8, 8), trace=True), torch.arange(8))
    return sum(seen.values())


@pytest.mark.parametrize("form", [reversible, lambda net: net])
def test_only_reversible_nets_keep_as_much_at_any_depth(form):
    few, many = (kept(depth, lambda n: form(build("resnet9", (1, 8, 8), 10, filters=4, blocks=n))) for depth in (2, 8))
    assert (many < 1.05 * few) == (form is reversible)


def test_what_cannot_be_rebuilt_is_refused():
    with pytest.raises(ValueError, match="draws random numbers"):
        ReversibleSegment([Block(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)))])
    with pytest.raises(ValueError, match="particles"):
        reversible(timed(build("resnet9", (1, 8, 8), 10, filters=4)))
    with pytest.raises(ValueError, match="at most 1"):
        reversible(build("dense", (2,), 2), coupling=1.5)


class Restless(nn.Module):
    """Another map at each call."""

    def __init__(self):
        super().__init__()
        self.inner, self.calls = nn.Linear(2, 2), 0

    def forward(self, z):
        self.calls += 1
        return self.calls * self.inner(z)


def test_blocks_that_do_not_come_out_alike_are_noticed():
    net = ResidualNet(nn.Identity(), [ReversibleSegment([Block(Restless())])], nn.Identity())
    with pytest.raises(RunFailed, match="do not come out alike"):
        net(torch.randn(3, 2)).sum().backward()


def test_half_precision_keeps_its_states_in_single():
    net = reversible(build("resnet9", (1, 8, 8), 10, filters=4)).train()
    with torch.autocast("cpu", torch.bfloat16):
        trace = net(torch.randn(4, 1, 8, 8), trace=True)
    assert trace.paths[0][-1].dtype == torch.float32


def test_steps_that_are_not_kept_make_no_number():
    net = reversible(build("dense", (2,), 2)).train()
    loss = LeastAction(p=3.0)(net(torch.randn(4, 2), trace=True), torch.zeros(4, dtype=torch.long))
    assert loss.value.isnan()


@pytest.mark.parametrize("name", ["dense", "basic"])
def test_derivatives_by_torch_func_are_those_of_stored_states(name):
    own, stored, x = nets(name)
    found = [torch.func.vmap(torch.func.jacrev(net.eval()))(x.detach()[:, None]) for net in (own, stored)]
    assert_close(*found)


@pytest.mark.parametrize("name", ["dense", "basic"])
def test_a_start_of_zeros_is_rebuilt_like_any_other(name):
    own, stored, x = nets(name)
    x = torch.zeros_like(x, requires_grad=True)
    for one, other in zip(*(gradients(net, x, LeastAction()) for net in (own, stored)), strict=True):
        assert_close(one, other, rtol=1e-9, atol=1e-11)
    small = copy.deepcopy(own).float()
    small(torch.zeros(5, *x.shape[1:])).sum().backward()


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_sizes_whose_squares_are_no_floats_are_no_reason_to_stop(size):
    net = ResidualNet(nn.Identity(), [ReversibleSegment([Block(nn.Identity()) for _ in range(3)])], nn.Identity())
    x = torch.full((2, 3), size, requires_grad=True)
    net(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_run_without_numbers_is_left_to_the_loss(value):
    for at_start in (True, False):
        net = nets("dense")[0]
        x = torch.randn(3, 4, dtype=F64)
        with torch.no_grad():
            if at_start:
                x[0, 0] = value
            else:
                next(net.segments[0].blocks[2].parameters()).fill_(value)
        loss = net(x).sum()
        loss.backward()
        assert not loss.isfinite() or not at_start


class Failing(nn.Module):
    """No number at its fourth call, in one copy or the other."""

    def __init__(self, call):
        super().__init__()
        self.inner, self.calls, self.call = nn.Linear(2, 2), 0, call

    def forward(self, z):
        self.calls += 1
        return self.inner(z) * (torch.nan if self.calls == self.call else 1.0)


@pytest.mark.parametrize("call", [3, 4])
def test_rebuilt_states_without_numbers_are_noticed(call):
    net = ResidualNet(nn.Identity(), [ReversibleSegment([Block(Failing(call))])], nn.Identity())
    with pytest.raises(RunFailed, match="off by nan"):
        net(torch.randn(3, 2)).sum().backward()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision_are_refused_with_the_cure(kind):
    cure, x = "Keep the weights in float32, and train under torch.autocast", torch.randn(3, 4).to(kind)
    with pytest.raises(ValueError, match=cure):
        reversible(build("dense", (4,), 2).to(kind))
    for train in (True, False):
        net = reversible(build("dense", (4,), 2)).to(kind).train(train)
        for options in ({}, {"trace": True}):
            with pytest.raises(ValueError, match=cure):
                net(x, **options)


def test_blocks_with_an_inverse_keep_half_precision_where_nothing_is_rebuilt():
    plain = ResidualNet(nn.Identity(), [Segment([Shear() for _ in range(3)])], nn.Flatten())
    own, x = reversible(plain), torch.randn(5, 4).bfloat16()
    own, plain = own.bfloat16(), plain.bfloat16()
    assert torch.equal(own.eval()(x), plain(x))
    assert own(x, trace=True).output.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="under torch"):
        own.train()(x)


class Twice(Block):
    """A block that changes its move alone."""

    def move(self, z, weight=None):
        moved = super().move(z, weight)
        return moved._replace(step=2 * moved.step, end=moved.end + moved.step)


@pytest.mark.parametrize(
    ("make", "shape"),
    [*BLOCKS.values(), (Shear, (4,)), (lambda: Twice(dense(4)), (4,)), (lambda: hamiltonian_dense(4), (4,))],
)
def test_the_increment_of_a_block_is_the_step_of_its_move(make, shape):
    block, z = make().double(), torch.randn(5, *shape, dtype=F64, requires_grad=True)
    found = increment(block, z), block.move(z).step
    assert_close(*found)
    assert_close(*(torch.autograd.grad(each.square().sum(), z)[0] for each in found))


def test_an_increment_makes_no_end():
    z, seen = torch.randn(5, 4, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: seen.append(each.shape) or each, lambda each: each):
        increment(Block(nn.Linear(4, 4)), z)
        alone = len(seen)
        Block(nn.Linear(4, 4)).move(z)
    assert alone < len(seen) - alone
