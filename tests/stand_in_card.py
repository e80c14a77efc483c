"""A graphics card that is not there: shapes and devices as on CUDA, no numbers, and a count of the host's waits.

Tensors "on cuda" lie on torch's meta device. What is checked is what goes wrong first on a card and cannot be seen on
a CPU: operations that mix tensors of host and card raise, as CUDA's do, and so do host tensors that index the card's
(CUDA allows them, with a hidden copy), and shapes that depend on numbers. Whatever must read a number from the card
makes the host wait and is counted; it reads 1, 0 or true. So does a copy of numbers to the card, unless it is asked not
to block: torch's `set_sync_debug_mode` counts these, too. What kernels compute, and how fast, only a card can tell.
"""

import warnings
from collections import Counter
from contextlib import ExitStack, contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CARD = torch.device("cuda:0")
aten = torch.ops.aten
READS = {aten._local_scalar_dense.default, aten.equal.default}


class Names(TorchFunctionMode):
    """The device named cuda is the stand-in, and tensors on it say that they are on cuda:0."""

    def __init__(self, wait):
        super().__init__()
        self.wait = wait

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func == torch.Tensor.device.__get__:  # a new wrapper each time, equal but not the same
            device = func(*args, **kwargs)
            return CARD if device.type == "meta" else device
        if "device" in kwargs:
            kwargs["device"] = _stand_in(kwargs["device"])
            numbers = func in (torch.tensor, torch.as_tensor, torch.asarray) and str(kwargs["device"]) == "meta"
            if numbers and not (isinstance(args[0], torch.Tensor) and args[0].is_meta):
                self.wait(func.__name__)
        if func in (torch.Tensor.to, torch._C._nn._parse_to):
            args = tuple(_stand_in(arg) for arg in args)
        return func(*args, **kwargs)


class Card(TorchDispatchMode):
    """Refuses operations that mix devices; `waits` counts by operation how often the host waited for the card.

    In the mode "error" of `torch.cuda.set_sync_debug_mode` a wait raises, too.
    """

    def __init__(self):
        super().__init__()
        self.waits = Counter()
        self.mode = "default"

    def wait(self, what):
        """The host waits."""
        self.waits[what] += 1
        if self.mode == "error":
            raise RuntimeError(f"called a synchronizing CUDA operation: {what}")

    def set_mode(self, mode):
        """In place of torch.cuda.set_sync_debug_mode."""
        assert mode in ("default", "warn", "error")
        self.mode = mode

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_card = [tensor for tensor in tensors if tensor.is_meta]
        on_host = [tensor for tensor in tensors if not tensor.is_meta]
        if func is aten._to_copy.default:
            return self._moved(func, args, kwargs)
        if func is aten.copy_.default:
            if on_card and not args[0].is_meta:
                self.wait(str(func))
                return args[0].copy_(_read(args[0].shape, args[0].dtype))
            if args[0].is_meta and not args[1].is_meta and not (args[2:3] or (kwargs.get("non_blocking"),))[0]:
                self.wait(str(func))
            return func(*args, **kwargs)
        if on_card and any(tensor.dim() for tensor in on_host):
            shapes = [tuple(tensor.shape) for tensor in on_host if tensor.dim()]
            raise RuntimeError(f"{func} mixes tensors on the card with host tensors of shapes {shapes}")
        if on_card and func in READS:
            self.wait(str(func))
            return True if func is aten.equal.default else _read((), on_card[0].dtype).item()
        if on_card and str(func).startswith("aten._fused_"):  # fused optimisers change their arguments, here nothing
            return None
        return func(*args, **kwargs)

    def _moved(self, func, args, kwargs):
        source, target = args[0], kwargs.get("device")
        to_card = target is not None and torch.device(target).type == "meta"
        if to_card and isinstance(source, torch.Tensor) and not source.is_meta and not kwargs.get("non_blocking"):
            self.wait(str(func))
        off_card = isinstance(source, torch.Tensor) and source.is_meta and target is not None
        if not off_card or torch.device(target).type != "cpu":
            return func(*args, **kwargs)
        self.wait(str(func))
        return _read(source.shape, kwargs.get("dtype") or source.dtype)


@contextmanager
def stand_in_card(monkeypatch):
    """Within, "cuda" is the stand-in; yields it."""
    answers = {
        "is_available": True, "is_bf16_supported": True, "current_device": 0, "device_count": 1,
        "reset_peak_memory_stats": None, "max_memory_allocated": 0, "get_device_name": "stand-in",
        "is_current_stream_capturing": False,
    }  # fmt: skip
    card = Card()
    with ExitStack() as stack, monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*to a meta parameter in the current model.*")
        for name, answer in answers.items():
            patch.setattr(torch.cuda, name, lambda *args, answer=answer, **kwargs: answer)
        # A torch built for CUDA would ask its driver, which is not there, whether a graph is being captured.
        patch.setattr(torch.accelerator, "current_accelerator", lambda *args, **kwargs: None)
        patch.setattr(torch.cuda, "synchronize", lambda *args: card.waits.update(["synchronize"]))
        patch.setattr(torch.cuda, "set_sync_debug_mode", card.set_mode)
        fork = torch.random.fork_rng
        patch.setattr(torch.random, "fork_rng", lambda devices=(): fork(devices=[]))
        stack.enter_context(Names(card.wait))
        yield stack.enter_context(card)


def _read(shape, dtype):
    """What the host reads: true, the whole number 0, the real number 1, so that ratios are finite."""
    return (torch.ones if dtype == torch.bool or dtype.is_floating_point else torch.zeros)(shape, dtype=dtype)


def _stand_in(device):
    is_card = isinstance(device, (str, torch.device)) and str(device).startswith("cuda")
    return torch.device("meta") if is_card else device
