"""Laws from which the weights of a network are drawn anew; batch norms start as the identity."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from regimes import checks
from regimes.checks import kind, positive
from regimes.models.restricted import put_weight

Law = Callable[[Tensor, float, torch.Generator], None]
Fresh = Callable[[Tensor, Law], Tensor]


def kaiming(weight: Tensor, gain: float, generator: torch.Generator) -> None:
    """N(0, gain²·2/fan_out)."""
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)
    weight.mul_(gain)


def orthogonal(weight: Tensor, gain: float, generator: torch.Generator) -> None:
    """gain times a matrix with orthonormal rows or columns (axes after the first are flattened)."""
    nn.init.orthogonal_(weight, gain, generator=generator)


def normal(weight: Tensor, gain: float, generator: torch.Generator) -> None:
    """N(0, gain²), whatever the fan."""
    nn.init.normal_(weight, 0.0, gain, generator=generator)


def xavier(weight: Tensor, gain: float, generator: torch.Generator) -> None:
    """N(0, gain²·2/(fan_in + fan_out))."""
    nn.init.xavier_normal_(weight, gain, generator=generator)


def lecun(weight: Tensor, gain: float, generator: torch.Generator) -> None:
    """N(0, gain²/fan_in)."""
    nn.init.kaiming_normal_(weight, nonlinearity="linear", generator=generator)
    weight.mul_(gain)


def kaiming_uniform(weight: Tensor, gain: float, generator: torch.Generator) -> None:
    """Uniform around 0, of the variance of kaiming, gain²·2/fan_out."""
    nn.init.kaiming_uniform_(weight, mode="fan_out", nonlinearity="relu", generator=generator)
    weight.mul_(gain)


def uniform(weight: Tensor, gain: float, generator: torch.Generator) -> None:
    """Uniform around 0, of variance gain², whatever the fan."""
    nn.init.uniform_(weight, -math.sqrt(3) * gain, math.sqrt(3) * gain, generator=generator)


def truncated(weight: Tensor, gain: float, generator: torch.Generator) -> None:
    """N(0, gain²) given a size of at most 2·gain, whatever the fan; its variance is 0.774 gain²."""
    nn.init.trunc_normal_(weight, 0.0, gain, -2 * gain, 2 * gain, generator=generator)


LAWS: dict[str, Law] = {
    "kaiming": kaiming,
    "orthogonal": orthogonal,
    "normal": normal,
    "xavier": xavier,
    "lecun": lecun,
    "kaiming_uniform": kaiming_uniform,
    "uniform": uniform,
    "truncated": truncated,
}


@torch.no_grad()
def initialise(
    model: nn.Module, law: Law, gain: float = 1.0, *, generator: torch.Generator, biases: bool = False
) -> nn.Module:
    """Draw all linear and convolution weights by `law`, in the order of the modules; returns the model.

    So are the maps to queries, keys and values of nn.MultiheadAttention; parameters of other modules stay. Biases are
    0, or drawn by N(0, gain²) with `biases`; normalisations get weight 1, bias 0 and fresh statistics.
    A weight with a parametrisation is set to what that makes of the drawn one (`put_weight`).
    Numbers are drawn where the generator lives, so that the same weights come out on any device and memory format.
    Source: author code of [Karkar2020]: kaiming (gain 1), orthogonal (gain 0.01), normal; `biases` for its circles.
    xavier (gain 1) is that of the author code of [ChizatOyallonBach2019], convolutions.
    """

    if not callable(law) or isinstance(law, type):
        raise ValueError(f"initialise needs a law, such as LAWS['kaiming'] out of {', '.join(LAWS)}; got {law!r}.")
    positive("initialise", "gain", gain, single=True)
    kind("initialise", "model", model, nn.Module, "a torch module")
    checks.generator("initialise", generator)

    def fresh(like: Tensor, rule: Law) -> Tensor:
        drawn = torch.empty(like.shape, dtype=like.dtype, device=generator.device)
        rule(drawn, gain, generator)
        return drawn.to(like.device)

    for module in model.modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            put_weight(module, fresh(module.weight, law))
            if module.bias is not None:
                if biases:
                    module.bias.copy_(fresh(module.bias, normal))
                else:
                    module.bias.zero_()
        elif isinstance(module, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm):
            module.reset_parameters()
        elif isinstance(module, nn.MultiheadAttention):
            _draw_projections(module, fresh, law, biases=biases)
    return model


def _draw_projections(module: nn.MultiheadAttention, fresh: Fresh, law: Law, *, biases: bool) -> None:
    """The maps to queries, keys and values, each on its own; that of the output is a linear layer."""
    weights = module.in_proj_weight
    apart = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    for weight in apart if weights is None else weights.chunk(3):
        weight.copy_(fresh(weight, law))
    for bias in (module.in_proj_bias, module.bias_k, module.bias_v):
        if bias is not None:
            bias.copy_(fresh(bias, normal) if biases else torch.zeros_like(bias))
