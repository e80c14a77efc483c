"""The networks as the compiler sees them: one graph from the first layer to the last, with the layout of a run."""

import subprocess
import sys
from pathlib import Path

import pytest

WHOLE = """
import torch
from torch.testing import assert_close

from regimes.models.build import build
from regimes.models.timed import timed
from regimes.models.layout import channels_last

arch, options, sorting = {arch!r}, {options!r}, {sorting!r}


def net():
    torch.manual_seed(0)
    made = build(arch, (3, 8, 8), 10, **options).double()
    return channels_last(timed(made, sorting=sorting).double() if sorting else made)


x = torch.randn(4, 3, 8, 8, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
for trace in (False, True):
    eager, compiled = net(), net()
    whole = torch.compile(lambda x: compiled(x, trace=trace), fullgraph=True, backend="aot_eager")
    found, truth = whole(x), eager(x, trace=trace)
    assert_close([*found[0], *found.flat_steps] if trace else found, [*truth[0], *truth.flat_steps] if trace else truth)
    for model, output in ((eager, truth), (compiled, found)):
        (output.output if trace else output).square().sum().backward()
    for one, other in zip(eager.parameters(), compiled.parameters(), strict=True):
        assert_close(other.grad, one.grad, rtol=1e-7, atol=1e-9)
"""
NETS = [
    ("resnet9", {"filters": 4, "blocks": 2}, None),  # its head flattens: the gradient is put in order there
    ("resnext50", {"cardinality": 1}, None),
    ("preact_resnet", {"depth": 8}, None),
    ("preact_resnet", {"depth": 8}, "epoch"),
    ("preact_resnet", {"depth": 8}, "never"),
]


@pytest.mark.slow  # imports the compiler
@pytest.mark.parametrize(("arch", "options", "sorting"), NETS)
def test_no_layer_breaks_the_graph(arch, options, sorting):
    # In a process of its own: the checks of argument types that run here cannot be compiled.
    code = WHOLE.format(arch=arch, options=options, sorting=sorting)
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=True)


ONCE = """
import torch

from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.models.build import build
from regimes.training.loop import Training, descend
from regimes.training.metrics import evaluate
from regimes.training.objectives import LeastAction

torch.set_default_dtype(torch.float64)  # the compiled network rounds otherwise
compiled, sizes = [], []


def counting(graph, examples):
    compiled.append(graph)

    def run(*given):
        sizes.append([len(x) for x in given if x.dim() == 4 and x.shape[1:] == (3, 8, 8)][0])
        return graph(*given)

    return run


def net():
    torch.manual_seed(0)
    return build("resnet9", (3, 8, 8), 10, filters=4, blocks=2)


data = Labelled(torch.randn(10, 3, 8, 8), torch.randint(0, 10, (10,)))
after = []
for asked in (True, False):
    batches, model = Batches(data, 4), net()
    if asked:
        model.compile(backend=counting)
    run = Training(model, LeastAction(level={level!r}), torch.optim.SGD(model.parameters(), 0.01))
    for step in descend(run, batches, epochs=2):
        if step.number == 1:
            evaluate(model, Batches(data, 3, shuffle=False))
    after.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
assert len(compiled) == 1, len(compiled)
assert sizes == [4] * 4, sizes
torch.testing.assert_close(*after)
"""


@pytest.mark.slow  # imports the compiler
@pytest.mark.parametrize("level", ["batch", "batch_after", "whole"])
def test_a_network_is_compiled_once_for_full_batches_and_for_nothing_else(level):
    code = ONCE.format(level=level)
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=True)


TOGETHER = """
import torch

from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.models.build import build
from regimes.training.config import TrainConfig
from regimes.training.ensemble import ensemble_of
from regimes.training.assemble import make_objective, make_optimiser
from regimes.training.loop import Training, descend
from regimes.data.member_batches import MemberBatches

torch.set_default_dtype(torch.float64)  # the compiled network rounds otherwise
compiled, sizes = [], []


def counting(graph, examples):
    compiled.append(graph)

    def run(*given):
        sizes.append([x.shape[:2] for x in given if x.dim() == 5 and x.shape[2:] == (3, 8, 8)][0])
        return graph(*given)

    return run


def net(seed):
    torch.manual_seed(seed)
    return build("resnet9", (3, 8, 8), 10, filters=4, blocks=2)


compile_module = torch.nn.Module.compile
torch.nn.Module.compile = lambda self, mode=None: compile_module(self, backend=counting)
data, after = Labelled(torch.randn(10, 3, 8, 8), torch.randint(0, 10, (10,))), []
for asked in (True, False):
    config = TrainConfig(lap=True, level={level!r}, compile=asked, lr=0.01)
    members = []
    for seed in range(2):
        model = net(seed)
        members.append(Training(model, make_objective(config), make_optimiser(config, model)))
    together = ensemble_of(config.model_copy(update={{"schedule": "constant"}}), members)
    for step in descend(together, MemberBatches([Batches(data, 4, seed=seed) for seed in range(2)]), epochs=2):
        pass
    after.append(torch.cat([weight.detach().flatten() for weight in together.model.parameters()]))
assert len(compiled) == 1, len(compiled)
assert sizes == [(2, 4)] * 4, sizes
torch.testing.assert_close(*after)
"""


@pytest.mark.slow  # imports the compiler
@pytest.mark.parametrize("level", ["batch_after", "whole"])
def test_an_ensemble_is_compiled_once_for_full_batches(level):
    code = TOGETHER.format(level=level)
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=True)
