"""Which trained tensors an output was computed from, and where a model keeps those that are not registered."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from regimes.modules.attention import one_path
from regimes.modules.outputs import sole_tensor


def leaves(output: Tensor) -> list[Tensor]:
    """The tensors that a backward pass from the output would give a gradient to, each once."""
    found: dict[int, Tensor] = {}
    if output.grad_fn is None and output.requires_grad:
        return [output]
    nodes, seen = [output.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            found[id(leaf)] = leaf
        nodes.extend(each for each, _ in node.next_functions)
    return list(found.values())


def require_registered(
    output: Tensor, registered: Iterable[Tensor], owner: nn.Module, caller: str, again: Callable[[], Any]
) -> None:
    """Refuse an output, computed with gradients on, that depends on trained tensors other than the registered ones.

    These are kept in a list, a closure or a product formed earlier: the owner cannot put other values in, copy or train
    them. Those that each call makes anew, to take a gradient inside, are not kept: `again` gives the output once more.
    ValueError: names the first of them.
    """
    held = list(registered)  # of a scripted module each reading makes new ones
    known = {id(each) for each in held}
    hidden = [leaf for leaf in leaves(output) if id(leaf) not in known]
    other = again() if hidden else None
    kept = {id(leaf) for leaf in leaves(other)} if isinstance(other, Tensor) else set()
    hidden = [leaf for leaf in hidden if id(leaf) in kept]
    if hidden:
        raise ValueError(
            f"{caller} needs a model whose trained tensors are registered parameters, read in each call; its output "
            f"depends on {_described(hidden[0], owner)}. Use nn.Parameter, nn.ParameterList and nn.ModuleList "
            "attributes, and read them in forward."
        )


def require_own_tensors(model: nn.Module, x: Tensor, registered: Iterable[Tensor], caller: str) -> None:
    """require_registered of the output of one sample; the model has to return one tensor."""
    with torch.inference_mode(False), torch.enable_grad(), one_path():

        def call() -> Tensor | None:
            return sole_tensor(model(x[:1].detach().clone()))

        output = call()
        if output is not None:
            require_registered(output, registered, model, caller, call)


def _described(tensor: Tensor, owner: nn.Module) -> str:
    shape = f"a trained tensor of shape {tuple(tensor.shape)}"
    for name, parameter in owner.named_parameters():
        if parameter is tensor:
            return f"{name!r} as it is kept elsewhere (a plain list, a closure, a product formed earlier)"
    for prefix, module in owner.named_modules():
        for path, kept in _kept(vars(module), 3):
            if kept is tensor and not path.startswith(("_parameters", "_buffers", "_modules")):
                return f"{shape} that is kept in {prefix + '.' if prefix else ''}{path}"
    return f"{shape} that is kept elsewhere (a global, a closure, a product formed at construction)"


def _kept(value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """What a value holds, by its path: entries of mappings and sequences, attributes of functions and modules."""
    inside: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        inside = ((str(key), each) for key, each in value.items())
    elif isinstance(value, list | tuple):
        inside = ((f"[{place}]", each) for place, each in enumerate(value))
    elif isinstance(value, nn.Module):
        inside = value.named_parameters()
    elif isinstance(value, FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        inside = ((f"(closure).{name}", cell.cell_contents) for name, cell in cells if cell != CellType())
    for name, each in inside:
        yield name, each
        if depth > 0 and not isinstance(each, Tensor):
            yield from (
                (f"{name}{'' if path[0] in '[(' else '.'}{path}", kept) for path, kept in _kept(each, depth - 1)
            )
