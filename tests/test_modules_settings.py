"""Settings of the process under several threads: the last one to leave puts them back."""

import threading
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from regimes.modules import one_path, own_kernels, plain_attention, present_autocast, without_autocast, without_cudnn
from regimes.modules.jacobian import by_graph, plain_kernels
from regimes.tangent.precision import full_precision
from regimes.transport.brenier import brenier_test

CPU, META = torch.device("cpu"), torch.device("meta")
BACKENDS = torch.backends
SETTINGS = {
    "fast path": BACKENDS.mha.get_fastpath_enabled,
    "flash": BACKENDS.cuda.flash_sdp_enabled,
    "efficient": BACKENDS.cuda.mem_efficient_sdp_enabled,
    "cudnn": lambda: BACKENDS.cudnn.enabled,
    "onednn": lambda: BACKENDS.mkldnn.enabled,
    "products": torch.get_float32_matmul_precision,
}
FUSED = {"fast path", "flash", "efficient"}
CHANGES = {  # and what each changes
    "one_path": (one_path, {"fast path"}),
    "plain_attention": (plain_attention, FUSED),
    "plain_kernels": (lambda: plain_kernels(CPU), FUSED),
    "without_cudnn": (without_cudnn, {"cudnn"}),
    "own_kernels": (own_kernels, {"cudnn", "onednn"}),
    "full_precision": (lambda: full_precision(CPU), {"fast path", "products"}),
}


def settings():
    return {name: read() for name, read in SETTINGS.items()}


@pytest.fixture
def usual():
    """As a program may have them; all of them are there to be changed."""
    torch.set_float32_matmul_precision("medium")
    yield settings()
    torch.set_float32_matmul_precision("highest")


@contextmanager
def thread_within(context):
    """A thread that stays inside until the context here ends."""
    entered, leave = threading.Event(), threading.Event()

    def work():
        with context():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(30)
    try:
        yield
    finally:
        leave.set()
        thread.join()


@pytest.mark.parametrize("second", CHANGES)
@pytest.mark.parametrize("first", CHANGES)
def test_the_last_of_several_threads_puts_the_settings_back(first, second, usual):
    (one, changed), (other, too) = CHANGES[first], CHANGES[second]
    early = thread_within(one)
    early.__enter__()
    with thread_within(other):
        assert {name for name, value in settings().items() if value != usual[name]} == changed | too
        early.__exit__(None, None, None)
        assert {name for name, value in settings().items() if value != usual[name]} == too
    assert settings() == usual


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_off_stays_off_and_an_error_leaves_nothing_behind(name, usual):
    change, changed = CHANGES[name]

    def fail():
        with change(), change():
            raise KeyError({each for each, value in settings().items() if value != usual[each]})

    BACKENDS.mha.set_fastpath_enabled(False)
    try:
        before = settings()
        with pytest.raises(KeyError) as seen:
            fail()
        assert seen.value.args == (changed | {"fast path"},)
        assert settings() == before
    finally:
        BACKENDS.mha.set_fastpath_enabled(True)


@pytest.mark.parametrize("change", [plain_kernels, full_precision, without_autocast])
def test_autocast_is_off_within_and_the_meta_device_which_knows_none_is_left_alone(change):
    with torch.autocast("cpu", torch.bfloat16):
        with change(CPU):
            assert not torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_enabled("cpu")
    with change(META):
        assert (torch.ones(2, 2, device=META) @ torch.ones(2, 2, device=META)).dtype == torch.float32


def test_autocast_as_it_is_now_is_there_again_later():
    with torch.autocast("cpu", torch.bfloat16):
        on = present_autocast(CPU)
    off = present_autocast(CPU)
    with on():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        with off():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with present_autocast(META)():
        assert not torch.is_autocast_enabled("cpu")


class OnCard(nn.Module):
    """Cells that cuDNN computes where it is on, without a derivative in eval mode."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3))

    def forward(self, z):
        if BACKENDS.cudnn.enabled and (z.requires_grad or torch._C._functorch.is_gradtrackingtensor(z)):
            raise RuntimeError("cudnn RNN backward can only be called in training mode")
        return z @ self.weight


@pytest.mark.skipif(not BACKENDS.cudnn.enabled, reason="needs cuDNN as torch comes")
def test_recurrent_maps_on_a_card_are_differentiated_without_cudnn():
    found = brenier_test(OnCard().eval(), torch.randn(6, 3), generator=torch.Generator().manual_seed(0))
    assert found.asymmetry == 0
    assert BACKENDS.cudnn.enabled


def test_a_constant_of_another_shape_has_derivatives_of_the_right_shapes():
    x = torch.randn(5, 3)
    linear = by_graph(lambda z: torch.ones(len(z), 2), x)
    assert linear.push(x).shape == (5, 2)
    assert linear.pull(torch.ones(5, 2)).shape == (5, 3)
