"""Empirical tangent kernel (NTK) of any torch module, the Jacobian it is made of, and its product with a vector."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from regimes.conventions import Params
from regimes.tangent.finite import require_finite
from regimes.tangent.gram.showing import Shown
from regimes.tangent.inputs import Forward, Samples, adapted, outer_names
from regimes.tangent.model import tangent_model
from regimes.tangent.operator import MEMORY, TangentOperator
from regimes.tangent.turns import turn


def jacobian(model: nn.Module, x: Samples, *, forward: Forward | None = None) -> Params:
    """Derivative of every output of every sample: name -> (n, k, *shape of the parameter), outputs flattened to k."""
    module, batch = adapted(model, x, forward, "jacobian")
    with turn(module):
        tangent = tangent_model(module, batch, "jacobian")
        rows = tangent.rows(batch.detach(), slice(0, tangent.outputs))
        require_finite("jacobian", {f"parameter {name!r}": value for name, value in rows.items()})
        return outer_names(module, rows)


def ntk(
    model: nn.Module,
    x1: Samples,
    x2: Samples | None = None,
    *,
    forward: Forward | None = None,
    outputs: str | Sequence[int] = "full",
    block: int | None = None,
    memory: int = MEMORY,
    out: Path | str | None = None,
    progress: bool | Shown = False,
) -> Float[Tensor, "n n2 k k"] | Float[Tensor, "n n2 k"] | Float[Tensor, "n n2"]:
    """Tangent kernel Θ(x, x')_ab = Σ_parameters ∂f_a(x) ∂f_b(x') of any torch module, at its present parameters.

    x1, x2: tensors; or mappings of tensors (model(**x1)) or tuples (model(*x1)) with a row for each sample. forward:
    forward(model, batch) calls the model in another way. x2 = None means x1: then the result is exactly symmetric.
    "full" gives (n1, n2, k, k); "trace" gives Σ_a Θ_aa, the SUM over the k outputs (divide by k for the mean);
    "diagonal" gives each Θ_aa, (n1, n2, k); a list of outputs gives the full kernel of those. Outputs of more than one
    axis are flattened to k.
    Derivatives are formed for `block` samples at a time (None: as many as `memory` bytes hold, which bound all work
    beside the result), so blocks change the time and not the result. dtype and device are those of the model.
    Parameters with requires_grad=False do not count; shared parameters count once with all their uses.
    out: a .npy file for a kernel that memory does not hold; the same call goes on after a kill. progress: shows it.
    A complex parameter counts as its real and imaginary parts. What regimes.tangent.gram can read from the graph of
    the output (dense, convolution, embedding and norm layers, bare parameters) goes layer by layer, hundreds of times
    faster than row by row. Models that vmap or torch.func cannot follow (writes in place, branches on data, custom
    functions, checkpoints, torch.jit) go sample by sample through plain autograd.
    Computed in full precision, whatever autocast and torch.set_float32_matmul_precision say.
    ValueError: a model that does not map each sample by itself (BatchNorm or Dropout in train mode, samples that mix),
    trained tensors that are not registered, parts under torch.no_grad or detach, parameters of 16 bits, inputs that are
    not finite or of another dtype, device or sample shape, derivatives that are not finite, and the rest of
    regimes.tangent.model.
    Source: [JacotGabrielHongler2018].
    """
    operator = TangentOperator(model, x1, forward=forward, memory=memory, caller="ntk")
    return operator.gram(x2, outputs=outputs, block=block, out=out, progress=progress)


def ntk_vector_product(
    model: nn.Module,
    x1: Samples,
    vector: Float[Tensor, "rows columns"],
    x2: Samples | None = None,
    *,
    forward: Forward | None = None,
) -> Float[Tensor, "n k"]:
    """Σ_jb Θ(x1_i, x2_j)_ab v_jb without forming Θ or a Jacobian: one vjp at x2, one jvp at x1. x2 = None means x1.

    Memory is that of one training step on x1 or x2. Errors as in ntk.
    """
    return TangentOperator(model, x1, forward=forward, caller="ntk_vector_product").matvec(vector, x2)
