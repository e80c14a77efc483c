"""Where the memory ends in the middle of a measurement, the error says so: no other way is tried, no model blamed."""

import pytest
import torch
from torch import nn

import regimes
from regimes.conventions import generator
from regimes.errors import RunFailed, out_of_memory
from regimes.lab.endings import full_card_told
from regimes.lab.tensor_files import read_tensors, write_tensors
from regimes.models.state_map import state_map
from regimes.tangent.criterion import lazy_criterion
from regimes.tangent.diagnosis.readings import read
from regimes.transport.brenier import brenier_test

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
LEFT = [0]  # passes for which there is memory; of copies of a model together


class Full(nn.Module):
    """The tensor itself, as long as there is memory."""

    def forward(self, z):
        LEFT[0] -= 1
        if LEFT[0] < 0:
            torch.empty(2**60)
        return z + 0.0


class Last(nn.Module):
    """The last states of a recurrent net, which is not followed by vmap."""

    def __init__(self):
        super().__init__()
        self.cells = nn.GRU(3, 4, batch_first=True)

    def forward(self, z):
        return self.cells(z[:, None])[0][:, -1]


class ByHand(torch.autograd.Function):
    """Of the old form, which torch.func refuses."""

    @staticmethod
    def forward(ctx, z):
        return 2 * z

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class Old(nn.Module):
    def forward(self, z):
        return ByHand.apply(z)


def net(*middle, last=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), *middle, Full(), nn.Linear(4, last))


def recurrent():
    torch.manual_seed(0)
    return nn.Sequential(Last(), Full(), nn.Linear(4, 2))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.block, self.next = net(last=3), net(last=3)

    def forward(self, z):
        z = z + self.block(z)
        return z + self.next(z)


def trained():
    """A net and its tangent model, both moved; made where there is memory."""
    LEFT[0], given = 10**6, LEFT[0]
    model = net()
    tangent = regimes.linearize(model)
    with torch.no_grad():
        for value in (*model.parameters(), *tangent.parameters()):
            value.add_(0.01)
    LEFT[0] = given
    return model, tangent


def full_everywhere(call, step=1):
    """Run the call with memory for more and more passes, until it is enough; the number that is.

    `step` more each time, and an eighth of them where they are many.
    """
    passes = 0
    while True:
        LEFT[0] = passes
        try:
            call()
        except Exception as error:
            if not out_of_memory(error):
                raise
        else:
            assert LEFT[0] >= 0, f"the error after {passes} passes was lost"
            return passes
        passes += max(step, passes // 8)


def test_wherever_the_memory_ends_in_a_kernel_the_error_says_so():
    model = net()
    assert full_everywhere(lambda: regimes.ntk(model, X), step=4) > 10


def test_wherever_the_memory_ends_in_a_trace_the_error_says_so():
    model = Residual()
    assert full_everywhere(lambda: state_map(regimes.trace_residuals(model, ["block", "next"]), X)) >= 3


@pytest.mark.slow
def test_a_full_memory_before_a_fit_is_no_mistake_in_its_samples(tmp_path):
    LEFT[0] = 0
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        regimes.fit(net(), (X, torch.arange(6) % 2), out=tmp_path / "run")


def test_weights_that_do_not_fit_are_not_called_damaged(tmp_path, monkeypatch):
    write_tensors(tmp_path / "w.pt", {"w": torch.ones(3)})
    monkeypatch.setattr(torch, "load", lambda *_, **__: torch.empty(2**60))
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        read_tensors(tmp_path / "w.pt", "")


def test_a_number_of_a_diagnosis_that_does_not_fit_says_how_it_would():
    assert read(lambda: torch.empty(2**60)).reason == "it does not fit into memory; take fewer points"


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        lambda: regimes.ntk(recurrent(), X),
        lambda: regimes.ntk(net(Old()), X),
        lambda: regimes.ntk(net(nn.RMSNorm(4)), X),
        lambda: regimes.ntk(net(), torch.arange(6)[:, None].float().expand(6, 3)),
        lambda: regimes.tangent_operator(net(), X).matvec(torch.ones(6, 2)),
        lambda: regimes.linearize(net())(X),
        lambda: regimes.Centred(net(), 2.0)(X),
        lambda: lazy_criterion(net(), X, torch.zeros(6, 2), generator=generator(0), iterations=2, starts=1),
        lambda: brenier_test(net(last=3), X, generator=generator(0)),
        lambda: brenier_test(net(Old(), last=3), X, generator=generator(0), p=3.0),
        lambda: brenier_test(net(last=3), X, generator=generator(0), encoder=nn.Sequential(nn.Linear(3, 3), Full())),
    ],
)
def test_wherever_the_memory_ends_the_error_says_so(call):
    assert full_everywhere(call, step=3) >= 3


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x3 and 2x2)"), False),
        (ValueError("the file says: out of memory"), False),
    ],
)
def test_a_full_memory_is_known_by_what_each_library_says(error, full):
    assert out_of_memory(error) == full


@pytest.mark.slow
def test_wherever_the_memory_ends_in_a_verdict_the_error_says_so():
    model, tangent = trained()
    assert full_everywhere(lambda: regimes.laziness(model, tangent, X), step=10) >= 50


@pytest.mark.parametrize(
    ("device", "error", "told"),
    [
        ("cpu", torch.OutOfMemoryError("CUDA out of memory"), True),
        ("cuda", RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        ("cuda", RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        ("cpu", RuntimeError("DefaultCPUAllocator: can't allocate memory"), False),
        ("cuda", RuntimeError("DefaultCPUAllocator: can't allocate memory"), False),
    ],
)
def test_a_full_card_is_told_as_one_and_nothing_else_is(device, error, told):
    with pytest.raises(RuntimeError) as raised, full_card_told(device, "take --batch 32"):
        raise error
    assert isinstance(raised.value, RunFailed) == told
    assert not told or "--batch 32" in str(raised.value)
