"""The memory promised for a kernel, against what the operating system counts in a process of its own (Linux)."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from regimes import tangent_operator
from regimes.tangent.gram import whole
from regimes.tangent.gram.blocks import Store
from regimes.tangent.gram.features import Features
from regimes.tangent.gram.footprint import most_bytes
from regimes.tangent.gram.forms import APPLIED, FORMS, ROWS, Sizes, cheapest

PROGRAM = """
import sys
from pathlib import Path
import torch
from torch import nn
from regimes import tangent_operator
from regimes.models.build import build

def resident(entry):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(entry))

name, work, n, memory = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]) * 2**20
torch.manual_seed(0)
dense = lambda: nn.Sequential(nn.Linear(784, 600), nn.ReLU(), nn.Linear(600, 600), nn.ReLU(), nn.Linear(600, 10))
class Tokens(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.table, self.out = nn.Embedding(50, size), nn.Linear(size, 2)

    def forward(self, x):
        return self.out(self.table(x).tanh().mean(1))

nets = {"dense": (dense, (784,)), "resnet9": (lambda: build("resnet9", (1, 28, 28), 10, filters=16), (1, 28, 28))}
class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 256, batch_first=True), 2)
        self.out = nn.Linear(64, 5)

    def forward(self, x):
        return self.out(self.layers(x).mean(1))

def product(operator):
    direction = {key: torch.ones_like(value) for key, value in operator.tangent.params.items()}
    return {
        "vjp": lambda: operator.vjp(torch.ones(len(operator.x), operator.outputs))[next(iter(direction))],
        "jvp": lambda: operator.jvp(direction),
        "matvec": lambda: operator.matvec(torch.ones(len(operator.x), operator.outputs)),
    }.get(work, lambda: operator.gram(outputs=work))()

nets |= {"sequence": (Sequence, (16, 64))}
nets |= {"broad": (lambda: nn.Sequential(nn.Linear(64, 4000), nn.ReLU(), nn.Linear(4000, 1)), (64,))}
nets |= {"tokens": (lambda: Tokens(8), (64,)), "wide tokens": (lambda: Tokens(128), (64,))}
create, shape = nets[name]
model = create().eval()
x = torch.randint(0, 50, (n, *shape)) if "tokens" in name else torch.randn(n, *shape)
product(tangent_operator(model, x[:6], memory=2**20))  # libraries are loaded
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
result = product(tangent_operator(model, x, memory=memory))
print((resident("VmHWM") - before - result.nbytes) / memory)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs the process table of Linux")
@pytest.mark.parametrize(
    ("name", "work", "n", "memory"),
    [
        ("dense", "full", 379, 32),  # as many as stay
        ("dense", "full", 400, 32),
        ("dense", "trace", 3000, 64),
        ("dense", "full", 200, 256),
        ("broad", "trace", 4000, 64),
        ("resnet9", "full", 40, 96),
        ("tokens", "full", 160, 128),
        ("tokens", "trace", 320, 128),
        ("wide tokens", "full", 128, 128),
        ("wide tokens", "diagonal", 128, 256),
        ("dense", "vjp", 40_000, 64),
        ("dense", "matvec", 20_000, 64),
        ("sequence", "vjp", 3000, 128),
        ("sequence", "jvp", 3000, 128),
        ("sequence", "trace", 200, 64),
        ("sequence", "full", 60, 64),
        ("resnet9", "jvp", 300, 96),
    ],
)
def test_the_memory_promised_is_kept(name, work, n, memory):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, work, str(n), str(memory)],
        cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(done.stdout) <= 1.25


def test_the_disk_is_asked_for_all_that_goes_to_it_however_the_outputs_are_split(monkeypatch):
    asked, written, parts = [], [], []

    class Looked(Store):
        def __init__(self, blocks, form, stays, folder, size):
            super().__init__(blocks, form, stays, folder, size)
            asked.append(size)
            parts.append(len({block.outputs.start for block in blocks}))

        def fill(self):
            super().fill()
            pieces = [piece for index in range(len(self.blocks)) for piece in self[index]]
            written.append(sum(tensor.nbytes for piece in pieces for tensor in piece))

    monkeypatch.setattr(whole, "Store", Looked)
    model = nn.Sequential(nn.Linear(2000, 60), nn.Tanh(), nn.Linear(60, 16))
    tangent_operator(model, torch.randn(3, 2000), memory=2**16).gram()
    assert parts[0] > 1
    assert written[0] == pytest.approx(asked[0], rel=0.1)


def test_a_kernel_that_surely_fits_is_measured_by_one_call(monkeypatch):
    measured = []
    pieces = Features.pieces

    def counted(self, x, outputs=slice(None), sizes=None, *, checked=True):
        if not checked:
            measured.append(len(x))
        return pieces(self, x, outputs, sizes, checked=checked)

    monkeypatch.setattr(Features, "pieces", counted)
    model, x = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 4)), torch.randn(50, 20)
    for memory, calls in ((2**29, [4]), (2**14, [4, 2, 4])):
        measured.clear()
        tangent_operator(model, x, memory=memory).gram()
        assert measured == calls


def test_what_is_pulled_back_is_foreseen_for_one_output_at_a_time(monkeypatch):
    """A further output takes what is kept of it: here a hundredth of what arrives at the layers.

    Those that are read together with it have room of their own.
    """
    measured, found = Features.measured, []

    def foreseen(*given):
        found.append(measured(*given))
        raise InterruptedError  # the kernel itself is not needed

    monkeypatch.setattr(Features, "measured", foreseen)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 36**2, 8))
    model[-1].requires_grad_(False)
    with pytest.raises(InterruptedError):
        tangent_operator(model, torch.randn(20, 1, 40, 40), memory=2**16).gram()
    ((peak, kept),) = found
    assert kept.output <= 200 * 4
    assert peak.output <= 1.1 * kept.output  # 20,904 bytes, where the deltas of all outputs are held


class Repeated(nn.Module):
    """A layer whose factors are small, under much to remember on the way."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Conv1d(64, 64, 3, padding=1), nn.Linear(64, 100)
        self.out.requires_grad_(False)

    def forward(self, x):
        return self.out(self.inner(x).repeat(1, 1, 4).tanh().sin().mean(2))


@pytest.mark.slow
def test_factors_of_all_outputs_are_there_once():
    """What is read of each output lies where it is needed: put in order at the end, it would take room twice."""
    model, x, memory = Repeated(), torch.randn(64, 64, 8), 20 * 2**20
    most, kernel = most_bytes(lambda: tangent_operator(model, x, memory=memory).gram(), [*model.parameters(), x])
    assert most - kernel.nbytes <= memory


def test_pieces_that_do_not_fit_are_kept_in_the_form_that_takes_less(monkeypatch):
    """On 32 positions rows of 129 · 128 numbers and the products of two factors take about as long."""
    sizes = Sizes(1, 10, 1, 32, 128, 129, 60)
    forms = FORMS["matrix"]
    assert cheapest(sizes, forms) is ROWS
    assert cheapest(sizes, forms, filed=True) is APPLIED
    chosen = []
    sized = Features.sized
    monkeypatch.setattr(Features, "sized", lambda *given: chosen.append(sized(*given)) or chosen[-1])

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.out = nn.Linear(128, 128), nn.Linear(128, 10)

        def forward(self, x):
            return self.out(self.inner(x).tanh().mean(1))

    model, x = Tokens(), torch.randn(60, 32, 128)
    kernels = [tangent_operator(model, x, memory=memory).gram() for memory in (2**31, 2**25)]
    assert [found.forms[0] for found in chosen] == [ROWS, APPLIED]
    assert (kernels[0] - kernels[1]).abs().max() <= 1e-5 * kernels[0].abs().max()


def test_few_of_many_outputs_do_not_take_the_square_of_their_number():
    model, x = nn.Linear(2, 3000), torch.randn(3, 2)
    operator = tangent_operator(model, x)
    for work in (
        lambda: operator.gram(outputs=[1, 4]),
        lambda: operator.tangent.rows(x, torch.tensor([1, 4])),
    ):
        most, _ = most_bytes(work, [*model.parameters(), x])
        assert most < 3000**2
