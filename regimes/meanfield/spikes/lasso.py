"""The best masses of spikes at fixed positions, exactly: a small Lasso."""

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.errors import RunFailed


def best_masses(
    gram: Float[Tensor, "m m"], linear: Float[Tensor, " m"], start: Float[Tensor, " m"], *, signed: bool
) -> Float[Tensor, " m"]:
    """min over w of ½wᵀGw − cᵀw + |w|₁, over w ≥ 0 where not signed; G is the Gram matrix, c is linear in the target.

    An active-set method: with the support and its signs s held, w = G⁻¹(c − s) is exact; where a mass would change its
    sign the step ends and it leaves, where |c − Gw| > 1 off the support the worst one enters. Each round lowers the
    value, so no support comes twice. Error: rounding times the condition number of G on the support.
    Source: the feature-sign search of [LeeBattleRainaNg2006].
    """
    w = start.clone()
    for _ in range(50 * (len(w) + 1)):
        active = w.nonzero()[:, 0]
        if len(active):
            signs = w[active].sign()
            goal = torch.linalg.lstsq(gram[active][:, active], (linear[active] - signs)[:, None]).solution[:, 0]
            leaving = goal * signs <= 0
            if bool(leaving.any()):
                shares = torch.where(leaving, w[active] / (w[active] - goal), torch.inf)
                least = shares.min()
                w[active] += least.clamp_max(1) * (goal - w[active])
                w[active[shares == least]] = 0
                continue
            w[active] = goal
        slack = linear - gram @ w
        outside = (slack.abs() if signed else slack).masked_fill(w != 0, -torch.inf)
        if not len(outside) or float(outside.max()) <= 1 + 1e-12:
            return w
        enters = outside.argmax()
        w[enters] = slack[enters].sign() * 1e-300  # it is in the support now, with its sign
    raise RunFailed(
        f"best_masses: {len(w)} masses have no optimum after {50 * (len(w) + 1)} rounds; is G a Gram matrix?"
    )
