"""Units shared by every package: the risk and its norm; `generator` is that of regimes.streams.

Letters: n samples, d features, k outputs, m (`width`) neurons, p parameters, t flow time.
Function space is L² of the empirical measure: ‖f‖² = 1/n Σ_i ‖f(x_i)‖², norm summed over the k outputs.
"""

from jaxtyping import Float
from torch import Tensor

from regimes.checks import real, shapes
from regimes.streams import generator as generator

Params = dict[str, Tensor]


def square_risk(outputs: Float[Tensor, "*runs n k"], targets: Float[Tensor, "*#runs n k"]) -> Float[Tensor, "*runs"]:
    """Half mean square error R(f) = 1/(2n) Σ_i ‖f(x_i) − y_i‖²: factor ½, mean over samples, sum over outputs."""
    shapes("square_risk", outputs=(outputs, "*runs n k"), targets=(targets, "*#runs n k"))
    real("square_risk", outputs=outputs, targets=targets)
    return (outputs - targets).square().sum(-1).mean(-1) / 2


def function_norm(values: Float[Tensor, "*runs n k"]) -> Float[Tensor, "*runs"]:
    """Norm in L² of the empirical measure: ‖f‖ = √(1/n Σ_i ‖f(x_i)‖²)."""
    shapes("function_norm", values=(values, "*runs n k"))
    real("function_norm", values=values)
    return values.square().sum(-1).mean(-1).sqrt()
