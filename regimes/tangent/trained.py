"""How lazy the training of a torch module was, from the module and its tangent model, both trained in the same way."""

from typing import NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from regimes.checks import count, kind
from regimes.errors import out_of_memory
from regimes.modules import called, copied, in_modes, modes_of, require_batch, unwrapped
from regimes.tangent.kernel import ntk
from regimes.tangent.laziness import kernel_drift, tangent_distance, weight_motion
from regimes.tangent.linearize import Linearized
from regimes.tangent.verdict import Judged, Thresholds, judge_laziness


class Laziness(NamedTuple):
    """The numbers of one training run, and the verdict on it.

    weight_motion = ‖w − w_0‖/‖w_0‖ over the trainable parameters; kernel_drift = ‖Θ − Θ_0‖/‖Θ_0‖ of the tangent kernel
    summed over outputs; tangent_distance = ‖f − f̄‖/‖f̄‖ over the given inputs, f̄ the trained tangent model.
    """

    weight_motion: float
    kernel_drift: float
    tangent_distance: float
    judged: Judged

    @property
    def verdict(self) -> str:
        """ "lazy", "not lazy" or "undecided"."""
        return self.judged.verdict

    def __str__(self) -> str:
        return (
            f"{self.judged.words} (weight motion {self.weight_motion:.3g}, kernel drift {self.kernel_drift:.3g}, "
            f"distance from the tangent model {self.tangent_distance:.3g})"
        )


def laziness(
    model: nn.Module,
    tangent: Linearized,
    x: Shaped[Tensor, "n *sample"],
    *,
    kernel_samples: int = 50,
    thresholds: Thresholds | None = None,
) -> Laziness:
    """Whether a trained model stayed with its tangent model, for any torch module.

    Make tangent = linearize(model) before the training, then train both by the same steps on the same data. x: inputs
    on which they are compared, test inputs best. The kernel drift is taken on the first `kernel_samples` of them.
    One run is one number: for intervals over seeds pass the numbers of several to judge_laziness.
    ValueError: a tangent model of another architecture or not trained; the conditions of ntk.
    Source: [ChizatOyallonBach2019]; the thresholds are our own (see Thresholds).
    """
    if not isinstance(tangent, Linearized):
        raise ValueError(
            f"laziness needs the tangent model of the start, linearize(model); got {type(tangent).__name__}. "
            "Make it before the training and train it in the same way."
        )
    require_batch("laziness", x)
    count("laziness", "kernel_samples", kernel_samples)
    kind("laziness", "model", model, nn.Module, "a torch module")
    model = unwrapped(model)
    start, now = copied(model), {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    try:
        start.load_state_dict(tangent.start.state_dict())
        start_values = [_real(start.get_parameter(name).detach()) for name in tangent.names]
        values = [_real(now[name]) for name in tangent.names]
    except (RuntimeError, KeyError, AttributeError) as error:
        if out_of_memory(error):
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"laziness needs the model that was linearised; its tensors differ: {reason}") from error
    with torch.no_grad():
        if all(not bool(part.any()) for part in tangent.displacement):
            raise ValueError("laziness needs a trained tangent model; it has not moved. Train it as the model.")
        few = x[:kernel_samples]
        _require_same(start, tangent, few)
        motion = float(weight_motion(values, start_values))
        drift = float(kernel_drift(ntk(model, few, outputs="trace"), ntk(start, few, outputs="trace")))
        outputs, linear = (_evaluated(net, x).reshape(len(x), -1) for net in (model, tangent))
        distance = float(tangent_distance(outputs, linear))
    judged = judge_laziness({"tangent_distance": distance, "kernel_drift": drift}, thresholds)
    return Laziness(motion, drift, distance, judged)


def _require_same(start: nn.Module, tangent: Linearized, x: Tensor) -> None:
    """Refuse a model that makes other outputs of the weights of the start than the model that was linearised."""
    with in_modes(start, (False,) * len(modes_of(start))):
        found, expected = (_evaluated(net, x) for net in (start, tangent.start))
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * _size(expected)):
        raise ValueError(
            "laziness needs the model that was linearised, trained; this one makes other outputs of the same weights, "
            "as with another activation. Pass the model of linearize(model)."
        )


def _size(values: Tensor) -> float:
    return float(values.abs().max())


def _real(values: Tensor) -> Tensor:
    return torch.view_as_real(values) if values.is_complex() else values


def _evaluated(model: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([called(model, batch, "laziness") for batch in x.split(1000)])
