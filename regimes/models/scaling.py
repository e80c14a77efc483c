"""The centred, α-scaled model: one number moves a network from feature learning to its tangent model."""

from typing import Any

import torch
from torch import Tensor, nn

from regimes.checks import positive
from regimes.modules import (
    FirstBatch,
    frozen_copy,
    require_deterministic,
    require_own_tensors,
    require_python,
    require_values,
)


class Centred(nn.Module):
    """α(h(w) − h(w_0)) for any module h that maps each sample by itself; exactly zero at the start w_0.

    Minimise R(α(h − h_0))/α² (step sizes then do not depend on α): α → ∞ is lazy training, the tangent model.
    (Where torch takes a fused path without gradients, LSTM or attention, the zero is one up to rounding.)
    w_0 is copied when Centred is made, as buffers: it follows state_dict, .to() and deepcopy, and is no parameter. The
    state of another alpha is refused (ValueError); one that was saved without its alpha is taken.
    BatchNorm and Dropout in train mode are refused (ValueError), at construction and at each call: h(w_0) would not be
    a function. So are models that mix the samples of a batch, or use trained tensors that are no registered
    parameters, at the first batch of two or more.
    Source: [ChizatOyallonBach2019].
    """

    def __init__(self, model: nn.Module, alpha: float) -> None:
        super().__init__()
        positive("Centred", "alpha", alpha)
        require_deterministic(model, "Centred")
        require_values(model, "Centred")
        require_python(model, "Centred")
        self.model = model
        self.alpha = float(alpha)
        self.start = frozen_copy(model)
        self._first = FirstBatch()

    def forward(self, x: Tensor) -> Tensor:
        require_deterministic(self.model, "Centred")
        if self._first.look(self.start, x, "Centred"):
            require_own_tensors(self.start, x, (), "Centred")
        start = self.start(x.clone())  # before the model, which may write into x
        return self.alpha * (self.model(x) - start)

    def train(self, mode: bool = True) -> "Centred":
        super().train(mode)
        self.start.eval()
        return self

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.alpha, dtype=torch.float64)

    def set_extra_state(self, state: Any) -> None:
        if float(state) != self.alpha:
            raise ValueError(
                f"Centred needs the state of its own alpha, {self.alpha:g}; got that of alpha={float(state):g}. "
                "Make it with that one."
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any, **named: Any) -> None:
        state_dict.setdefault(f"{prefix}_extra_state", self.get_extra_state())
        super()._load_from_state_dict(state_dict, prefix, *rest, **named)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:g}"
