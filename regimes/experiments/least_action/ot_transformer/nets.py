"""Small transformers that classify images read as sequences of rows, many seeds as one ensemble.

All tensors have the seeds in front. A block is that of GPT: z + attention(norm z), then z + mlp(norm z), here without a
mask, as a whole image is classified. The stack f of some blocks has its shortcuts within. One pass is z ↦ f(z); as
steps of an equation, M passes are z ↦ z + f(z)/M, the velocity f(z). Then a norm, the mean over the tokens, and a
linear classifier. Source: [Kan2025] and its author code, where the velocity is the stack with its shortcuts too.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from regimes.experiments.least_action.ot_transformer.config import Arm, Config

Params = dict[str, Tensor]
TOKENS, FEATURES, CLASSES = 8, 8, 10  # of an image of digits


def weights(config: Config, arm: Arm, generators: Sequence[torch.Generator]) -> Params:
    """Initial weights of an arm, one net a generator: N(0, 1/inputs), what adds to the state less by √(2·blocks).

    Drawn in one order, so that all arms of a seed begin with the same stack.
    """
    d, blocks = config.width, config.blocks * (arm.passes if arm.own_weights else 1)
    shrink = (2 * config.blocks) ** -0.5
    shapes: dict[str, tuple[tuple[int, ...], float]] = {
        "embed": ((FEATURES, d), FEATURES**-0.5),
        "place": ((TOKENS, d), 0.02),
        "head": ((d, CLASSES), d**-0.5),
    }
    for number in range(blocks):
        shapes |= {
            f"{number}.attend": ((d, 3 * d), d**-0.5),
            f"{number}.project": ((d, d), shrink * d**-0.5),
            f"{number}.widen": ((d, 4 * d), d**-0.5),
            f"{number}.narrow": ((4 * d, d), shrink * (4 * d) ** -0.5),
        }
    made = {
        name: std * torch.stack([torch.randn(*shape, generator=one) for one in generators])
        for name, (shape, std) in shapes.items()
    }
    norms = [f"{number}.{name}" for number in range(blocks) for name in ("first", "second")]
    for name in [*norms, "last"]:
        made[name] = torch.ones(len(generators), 1, 1, d)
    return {name: value.requires_grad_() for name, value in made.items()}


def outputs(
    config: Config, arm: Arm, params: Mapping[str, Tensor], x: Float[Tensor, "seeds n tokens features"]
) -> tuple[Float[Tensor, "seeds n classes"], Float[Tensor, " seeds"]]:
    """Outputs, and the transport Σ_m ‖v_m‖²/M, mean over samples, tokens and features; 0 where there are no steps."""
    z = _linear(x, params["embed"]) + params["place"].unsqueeze(1)
    transport = x.new_zeros(len(x))
    for number in range(arm.passes):
        first = config.blocks * number if arm.own_weights else 0
        moved = _stack(config, params, z, range(first, first + config.blocks))
        if arm.as_steps:
            transport = transport + moved.square().mean((1, 2, 3)) / arm.passes
            moved = z + moved / arm.passes
        z = moved
    pooled = _norm(z, params["last"]).mean(2)
    return torch.bmm(pooled, params["head"]), transport


def multiply_adds(config: Config, arm: Arm) -> int:
    """Of one image forward."""
    d = config.width
    block = TOKENS * 12 * d * d + 2 * TOKENS * TOKENS * d
    return TOKENS * FEATURES * d + arm.passes * config.blocks * block + d * CLASSES


def _stack(config: Config, params: Mapping[str, Tensor], z: Tensor, blocks: Sequence[int]) -> Tensor:
    for number in blocks:
        part = {
            name: params[f"{number}.{name}"] for name in ("first", "attend", "project", "second", "widen", "narrow")
        }
        z = z + _linear(_attention(_linear(_norm(z, part["first"]), part["attend"]), config.heads), part["project"])
        z = z + _linear(gelu(_linear(_norm(z, part["second"]), part["widen"])), part["narrow"])
    return z


def _attention(joined: Tensor, heads: int) -> Tensor:
    """Softmax attention of queries, keys and values that lie side by side in the last axis."""
    seeds, n, tokens, features = joined.shape
    parts = joined.view(seeds * n, tokens, 3, heads, features // (3 * heads)).permute(2, 0, 3, 1, 4)
    queries, keys, values = parts.unbind()
    found = scaled_dot_product_attention(queries, keys, values)
    return found.transpose(1, 2).reshape(seeds, n, tokens, features // 3)


def _norm(z: Tensor, gain: Tensor) -> Tensor:
    return layer_norm(z, z.shape[-1:]) * gain


def _linear(z: Tensor, weight: Tensor) -> Tensor:
    return torch.bmm(z.flatten(1, 2), weight).unflatten(1, z.shape[1:3])
