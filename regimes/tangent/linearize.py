"""The first-order model of a network at its present parameters, as a module of its own."""

import torch
from torch import Tensor, nn

from regimes.checks import real
from regimes.conventions import Params
from regimes.modules import FirstBatch, frozen_copy, require_deterministic, require_one_derivative
from regimes.tangent.functional import evaluator, functional, push_forward
from regimes.tangent.model import require_registered


class Linearized(nn.Module):
    """f̄(x) = f(w_0, x) + D_w f(w_0, x)·δ: linear in its only parameters, the displacement δ, which starts at 0.

    w_0 and the other tensors of the model are buffers. Its gradient with respect to δ is exact at every δ.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        require_deterministic(model, "linearize")
        _, params = functional(model)
        real("linearize", half=False, **{f"parameter {name!r}": value for name, value in params.items()})
        self._first = FirstBatch()
        self.names = list(params)
        self.start = frozen_copy(model)
        self.displacement = nn.ParameterList([nn.Parameter(torch.zeros_like(value)) for value in params.values()])

    def displacements(self) -> Params:
        """δ under the names that the parameters have in the model."""
        return dict(zip(self.names, self.displacement, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        start = {name: self.start.get_buffer(name) for name in self.names}
        f = evaluator(self.start)
        if self._first.look(lambda batch: f(start, batch), x, "linearize"):
            require_registered(self.start, x, "linearize")
            require_one_derivative(lambda values: f(values, x[:2].detach()), start, "linearize")
        value, change = push_forward(lambda values: f(values, x), start, self.displacements())
        return value + change

    def train(self, mode: bool = True) -> "Linearized":
        super().train(mode)
        self.start.eval()
        return self


def linearize(model: nn.Module) -> Linearized:
    """First-order model of any torch module at its present parameters; train it with any torch optimiser.

    Frozen parameters (requires_grad=False) and buffers stay constants. Later changes of `model` do not reach it.
    It computes in the precision that is set around it, like any module: outside autocast where digits count.
    ValueError: BatchNorm or Dropout in train mode, parameters of 16 bits, no trainable parameter; at the first batch of
    two or more also samples that mix, and trained tensors that are not registered parameters.
    Source: [ChizatOyallonBach2019].
    """
    return Linearized(model)
