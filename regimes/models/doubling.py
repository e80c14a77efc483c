"""The doubling trick: a start whose output is exactly zero and whose tangent kernel is the model's own."""

from torch import Tensor, nn

from regimes.modules import (
    FirstBatch,
    called,
    copied,
    modes_of,
    require_batch,
    require_deterministic,
    require_own_tensors,
    require_python,
    require_values,
    untouched_buffers,
    unwrapped,
)


class Doubled(nn.Module):
    """(h(w_1) − h(w_2))/√2, two copies of any per-sample module h, started equal and both trained.

    At the start the output is exactly 0, and the factor 1/√2 keeps the tangent kernel: ½K + ½K = K.
    BatchNorm and Dropout in train mode are refused (ValueError), at construction and at each call; so are models that
    mix the samples of a batch or use trained tensors that are no registered parameters, at the first batch of two or
    more.
    Source: [ChizatOyallonBach2019].
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        require_deterministic(model, "Doubled")
        require_values(model, "Doubled")
        require_python(model, "Doubled")
        self.first = unwrapped(model, "Doubled")
        self.second = copied(self.first)
        self._first = FirstBatch()

    def forward(self, x: Tensor) -> Tensor:
        require_deterministic(self, "Doubled")
        require_batch("Doubled", x)
        if self._first.look(self._held, x, "Doubled", modes_of(self.second)):
            require_own_tensors(self.second, x, self.second.parameters(), "Doubled")
        second = called(self.second, x.clone(), "Doubled")  # before the first, which may write into x
        return (called(self.first, x, "Doubled") - second) / 2**0.5

    def _held(self, x: Tensor) -> Tensor:
        with untouched_buffers(self.second, "Doubled"):
            return called(self.second, x.clone(), "Doubled")
