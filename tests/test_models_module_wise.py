"""Networks in modules: the same map, gradients that stay within a module, the graph of one module at a time."""

import gc
import weakref

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from regimes.models.build import build
from regimes.models.module_wise import ModuleWiseNet, module_wise
from regimes.models.reversible import reversible
from regimes.models.timed import timed

IMAGE = (1, 8, 8)


def cut(modules: int, arch: str = "dense", **options) -> ModuleWiseNet:
    torch.manual_seed(0)
    net = build(arch, IMAGE, 10, **options)
    torch.manual_seed(1)
    return module_wise(net, modules, IMAGE)


def batch(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, *IMAGE), torch.arange(n) % 10


@pytest.mark.parametrize(("blocks", "modules", "sizes"), [(5, 2, (3, 2)), (4, 4, (1, 1, 1, 1)), (5, 1, (5,))])
def test_modules_are_as_equal_as_blocks_allow(blocks, modules, sizes):
    assert cut(modules, blocks=blocks, width=4).sizes == sizes


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("dense", {"blocks": 3, "width": 4}),
        ("resnet9", {"blocks": 3, "filters": 4}),
        ("preact_resnet", {"depth": 8}),
        pytest.param("resnext50", {}, marks=pytest.mark.slow),
        ("hamiltonian", {"blocks": 3}),
        ("odenet", {"blocks": 3}),
        ("contractive", {"blocks": 3}),
    ],
)
def test_as_a_map_it_is_the_network_that_was_cut(arch, options):
    torch.manual_seed(0)
    net = build(arch, IMAGE, 10, **options).eval()
    made, (x, _) = module_wise(net, 3, IMAGE).eval(), batch()
    expected = net(x, trace=True)
    assert_close(made(x), expected.output, rtol=0, atol=0)
    assert_close(made.whole()(x), expected.output, rtol=0, atol=0)
    for trace in (True, False):
        *_, last = made.turns(x, trace=trace)
        assert_close(last.output, expected.output)
    steps = [step for turn in made.turns(x, trace=True) for step in turn.flat_steps]
    assert_close(steps, expected.flat_steps)


def test_each_module_has_the_gradient_of_its_own_risk_alone():
    """Against the networks up to each module, by hand: only what is new in it takes a gradient of its risk."""
    net, (x, labels) = cut(3, blocks=5, width=4).double(), batch()
    x = x.double()
    for turn in net.turns(x):
        cross_entropy(turn.output, labels).backward()
    found = {name: weight.grad.clone() for name, weight in net.named_parameters()}
    net.zero_grad()
    seen: set[int] = set()
    for number, classifier in enumerate([*net.auxiliaries, net.head]):
        z = net.encoder(x)
        for blocks in net.modules_of_blocks()[: number + 1]:
            for block in blocks:
                z = z + block.residual(z)
        cross_entropy(classifier(z), labels).backward()
        own = [*net.modules_of_blocks()[number], classifier, *([net.encoder] if number == 0 else [])]
        new = {id(weight) for part in own for weight in part.parameters()}
        assert not new & seen
        for name, weight in net.named_parameters():
            if id(weight) in new:
                assert_close(found[name], weight.grad)
        seen |= new
        net.zero_grad()
    assert len(seen) == len(found)


def kept(modules: int, blocks: int = 16) -> int:
    """The most bytes that graphs of one step keep at a time, counted as each tensor is packed and freed."""
    net, (x, labels) = cut(modules, blocks=blocks, width=64), batch(512)
    alive, most = {}, 0

    class Held:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor

    def pack(tensor: torch.Tensor) -> Held:
        nonlocal most
        held = Held(tensor)
        if not tensor.is_leaf or not tensor.requires_grad:
            alive[id(held)] = (tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes())
            weakref.finalize(held, alive.pop, id(held))
            most = max(most, sum(dict(alive.values()).values()))
        return held

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
        for turn in net.turns(x):
            cross_entropy(turn.output, labels).backward()
            del turn
            gc.collect()
    return most


@pytest.mark.slow
def test_the_graph_of_one_module_is_alive_at_a_time():
    whole, four = kept(1), kept(4)
    assert 0.2 < four / whole < 0.4  # a quarter, and the input with its first map


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: net, "7 modules need a residual block each, and there are 3: take at most 3"),
        (timed, "these are particles, or rebuild them"),
        (reversible, "these are particles, or rebuild them"),
    ],
)
def test_what_cannot_be_cut_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        module_wise(change(build("dense", IMAGE, 10, blocks=3, width=4)), 7, IMAGE)


def test_a_network_without_blocks_is_refused():
    with pytest.raises(ValueError, match="this one has none"):
        module_wise(build("vgg11", (1, 8, 8), 10, width=4), 1, IMAGE)


def test_segments_that_do_more_than_to_act_in_turn_are_refused():
    with pytest.raises(ValueError, match="takes the blocks out of their segments"):
        module_wise(build("odenet", IMAGE, 10, blocks=3, simplex=True), 2, IMAGE)


def test_sizes_and_classifiers_that_do_not_fit_the_blocks_are_refused():
    net = build("dense", IMAGE, 10, blocks=3, width=4)
    parts = (net.encoder, [net.segment(0)], net.head)
    for sizes, count in ([2, 2], 1), ([3, 0], 1), ([2, 1], 0), ([], 0):
        with pytest.raises(ValueError, match="needs the sizes of its modules"):
            ModuleWiseNet(*parts, sizes=sizes, auxiliaries=[net.head] * count)
