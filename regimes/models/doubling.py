"""The doubling trick: a start whose output is exactly zero and whose tangent kernel is the model's own."""

from copy import deepcopy

from torch import Tensor, nn

from regimes.modules import FirstBatch, require_deterministic


class Doubled(nn.Module):
    """(h(w_1) − h(w_2))/√2, two copies of any per-sample module h, started equal and both trained.

    At the start the output is exactly 0, and the factor 1/√2 keeps the tangent kernel: ½K + ½K = K.
    BatchNorm and Dropout in train mode are refused (ValueError), at construction and at each call; so are models that
    mix the samples of a batch, at the first batch of two or more.
    Source: [ChizatOyallonBach2019].
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        require_deterministic(model, "Doubled")
        self.first = model
        self.second = deepcopy(model)
        self._first = FirstBatch()

    def forward(self, x: Tensor) -> Tensor:
        require_deterministic(self, "Doubled")
        self._first.look(self.second, x, "Doubled")
        return (self.first(x) - self.second(x)) / 2**0.5
