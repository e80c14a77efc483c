"""The first-order model of a network at its present parameters, as a module of its own."""

import torch
from torch import Tensor, nn

from regimes.checks import finite
from regimes.conventions import Params
from regimes.modules import (
    FirstBatch,
    called,
    chance_restored,
    frozen_copy,
    in_modes,
    modes_of,
    readable,
    require_batch,
    require_deterministic,
    require_python,
    require_values,
    untouched_buffers,
    unwrapped,
)
from regimes.tangent.functional import evaluator, functional, push_forward
from regimes.tangent.look import Derivatives, look
from regimes.tangent.model import require_precise, require_row
from regimes.tangent.plain import Plain, PlainStep


class Linearized(nn.Module):
    """f̄(x) = f(w_0, x) + D_w f(w_0, x)·δ: linear in its only parameters, the displacement δ, which starts at 0.

    w_0 and the other tensors of the model are buffers. Its gradient with respect to δ is exact at every δ.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        require_deterministic(model, "linearize")
        require_values(model, "linearize")
        require_python(model, "linearize")
        model = unwrapped(model)
        _, params = functional(model)
        require_precise(params, "linearize")
        self._first, self._modes = FirstBatch(), modes_of(model)
        self._found: Derivatives | None = None
        self.names = list(params)
        self.start = frozen_copy(model)
        with torch.inference_mode(False):
            self.displacement = nn.ParameterList([nn.Parameter(torch.zeros_like(value)) for value in params.values()])

    def displacements(self) -> Params:
        """δ under the names that the parameters have in the model."""
        return dict(zip(self.names, self.displacement, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        start = {name: self.start.get_buffer(name) for name in self.names}
        require_batch("linearize", x)
        f = evaluator(self.start, "linearize")
        if self._found is None and len(x) and readable():
            finite("linearize", x=x)  # the looks below would see NaN as a fault of the model
            with chance_restored():  # what it keeps from its first call it keeps as in training, with gradients
                row = Plain(self.start, start).run(lambda _: called(self.start, x[:1].detach().clone(), "linearize"))
            require_row(row, "linearize")
        self._first.look(lambda batch: f(start, batch), x, "linearize")
        if readable() and self._first.waits(self._modes):  # as the model that was copied would be trained
            with in_modes(self.start, self._modes), untouched_buffers(self.start, "linearize"):
                self._first.look(lambda batch: f(start, batch), x, "linearize", self._modes)
        if self._found is None and len(x) > 0 and readable():
            self._found = look(f, start, Plain(self.start, start), x, "linearize")
            if not self._found.forward:
                raise ValueError(
                    "linearize needs a model whose backward pass can be differentiated; here that ends in: "
                    f"{self._found.reason}. Write that layer with plain operations."
                )
        if self._found is not None and not self._found.transforms:
            if torch.is_grad_enabled() and x.requires_grad:
                raise ValueError(
                    f"linearize has no derivatives by the inputs here, as torch.func does not follow the model "
                    f"({self._found.reason}). Pass x.detach()."
                )
            step = PlainStep.apply(Plain(self.start, start), x, self.names, *self.displacement)
            assert isinstance(step, Tensor)
            return step
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
    ValueError: BatchNorm or Dropout in train mode, parameters of 16 bits, no trainable parameter, parts of torch.jit;
    at the first batch also samples that mix, trained tensors that are not registered parameters, parts under
    torch.no_grad or detach, and a backward pass that cannot be differentiated.
    Source: [ChizatOyallonBach2019].
    """
    return Linearized(model)
