"""Whether a module computes what its class says, and whether somebody looks at its calls."""

from torch import nn
from torch.nn.modules import module as hooks


def altered(module: nn.Module) -> bool:
    """Whether its output may be another one than that of its class: hooks on the way forward, a method of its own."""
    own = (module._forward_hooks, module._forward_pre_hooks)
    whole = (hooks._global_forward_hooks, hooks._global_forward_pre_hooks)
    return any(own) or any(whole) or "forward" in vars(module)


def watched(module: nn.Module) -> bool:
    """Whether somebody looks at its calls, forward or backward, or has changed them."""
    own = (module._backward_hooks, module._backward_pre_hooks)
    whole = (hooks._global_backward_hooks, hooks._global_backward_pre_hooks)
    return any(own) or any(whole) or altered(module)
