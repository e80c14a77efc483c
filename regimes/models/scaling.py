"""The centred, α-scaled model: one number moves a network from feature learning to its tangent model."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from regimes.checks import positive
from regimes.modules import (
    FirstBatch,
    called,
    frozen_copy,
    modes_of,
    require_batch,
    require_deterministic,
    require_own_tensors,
    require_python,
    require_values,
    untouched_buffers,
    unwrapped,
)


class Centred(nn.Module):
    """α(h(w) − h(w_0)) for any module h that maps each sample by itself; exactly zero at the start w_0.

    Minimise R(α(h − h_0))/α² (step sizes then do not depend on α): α → ∞ is lazy training, the tangent model.
    (Where torch takes a fused path without gradients, LSTM or attention, the zero is one up to rounding.)
    The output is the model's, or its `logits`, or the only tensor in what it returns.
    w_0 is copied when Centred is made, as buffers: it follows state_dict, .to() and deepcopy, and is no parameter. The
    state of another alpha is refused (ValueError); one that was saved without its alpha is taken.
    An alpha that the output's precision cannot hold is refused (ValueError), at each call.
    BatchNorm and Dropout in train mode are refused (ValueError), at construction and at each call: h(w_0) would not be
    a function. So are models that mix the samples of a batch, draw random numbers (stochastic depth), or use trained
    tensors that are no registered parameters, at the first batch of two or more in each mode.
    Source: [ChizatOyallonBach2019].
    """

    def __init__(self, model: nn.Module, alpha: float) -> None:
        super().__init__()
        positive("Centred", "alpha", alpha, single=True)
        require_deterministic(model, "Centred")
        require_values(model, "Centred")
        require_python(model, "Centred")
        self.model = unwrapped(model, "Centred")
        self.alpha = float(alpha)
        self.start = frozen_copy(self.model)
        self._first = FirstBatch()

    def forward(self, x: Tensor) -> Tensor:
        require_deterministic(self.model, "Centred")
        require_batch("Centred", x)
        if self._first.look(partial(called, self.start, caller="Centred"), x, "Centred"):
            require_own_tensors(self.start, x, (), "Centred")
        self._first.look(self._held, x, "Centred", modes_of(self.model))  # the start in eval mode shows no chance
        start = called(self.start, x.clone(), "Centred")  # before the model, which may write into x
        self._require_held(start.dtype)
        return self.alpha * (called(self.model, x, "Centred") - start)

    def _require_held(self, dtype: torch.dtype) -> None:
        """Refuse a scale at which the output would be 0 or NaN whatever the model does."""
        held = torch.finfo(dtype)
        if not held.tiny <= self.alpha <= held.max:
            raise ValueError(
                f"Centred needs an alpha that {str(dtype).removeprefix('torch.')} can hold, from {held.tiny:.3g} to "
                f"{held.max:.3g}; got {self.alpha:g}. Take another alpha, or model.double()."
            )

    def _held(self, x: Tensor) -> Tensor:
        with untouched_buffers(self.model, "Centred"):
            return called(self.model, x.clone(), "Centred")

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
