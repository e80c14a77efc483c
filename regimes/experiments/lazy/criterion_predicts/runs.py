"""κ of a net at its start; then the net at all α by gradient flow, and its tangent model in closed form."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import functional_call, grad, vmap

from regimes.control.adaptive import integrate
from regimes.conventions import function_norm, generator, square_risk
from regimes.errors import users_choice
from regimes.experiments.lazy.criterion_predicts.config import Config
from regimes.experiments.lazy.criterion_predicts.models import Task, task
from regimes.models.scaling import Centred
from regimes.streams import Criterion
from regimes.tangent.criterion import lazy_criterion
from regimes.tangent.functional import flatten, trainable
from regimes.tangent.kernel import ntk


class Trained(NamedTuple):
    """Where each run ended: time, outputs on the other points, loss over that at the start, whether it got there."""

    time: Float[Tensor, " runs"]
    outputs: Float[Tensor, "runs n1 1"]
    ratio: Float[Tensor, " runs"]
    arrived: Bool[Tensor, " runs"]


def flow(made: Task, alpha: Float[Tensor, " runs"], goal: float, horizon: float, tolerance: float) -> Trained:
    """Gradient flow of R(α(h − h_0))/α² for every α until the loss has fallen to the share `goal` of its start.

    In v = α(w − w_0), v' = −1/n Jᵀ(α(h(w_0 + v/α) − h_0) − y): the times of all α can be compared.
    """
    start = {name: value.detach() for name, value in trainable(made.net).items()}

    before, before_test = made.net(made.x).detach(), made.net(made.x_test).detach()

    def outputs(moved: dict[str, Tensor], factor: Tensor, x: Tensor, first: Tensor) -> Tensor:
        weights = {name: value + moved[name] / factor for name, value in start.items()}
        return factor * (functional_call(made.net, weights, (x,)) - first)

    def loss(moved: dict[str, Tensor], factor: Tensor) -> Tensor:
        return square_risk(outputs(moved, factor, made.x, before), made.y)

    slopes, names = vmap(grad(loss)), list(start)

    def velocity(state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        found = slopes(dict(zip(names, state, strict=True)), alpha)
        return tuple(-found[name] for name in names)

    def losses(state: tuple[Tensor, ...]) -> Tensor:
        return vmap(loss)(dict(zip(names, state, strict=True)), alpha)

    zero = tuple(torch.zeros(len(alpha), *value.shape, dtype=value.dtype) for value in start.values())
    level = goal * square_risk(torch.zeros_like(made.y), made.y)
    (end,) = integrate(
        velocity, zero, [horizon], rtol=tolerance, atol=tolerance / 10, until=lambda state: losses(state) <= level
    )
    moved = dict(zip(names, end.state, strict=True))
    test = vmap(lambda one, factor: outputs(one, factor, made.x_test, before_test))(moved, alpha)
    return Trained(end.time, test, goal * losses(end.state) / level, end.stopped)


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row an α of one net: its κ and what else is known at the start, and the distance after training.

    `distance`: between net and tangent model at the same time, on other points, in L², over ‖y‖ = 1; `distance_coarse`:
    at ten times the tolerance. `motion` is the
    relative weight motion of the tangent model, `stretch` K = T ‖Dh‖² of Theorem 2.3, T the time of the tangent model;
    `second_order` = ½ ‖D²h‖ (α · its weight motion)²/α, the size of the first term that the tangent model leaves out.
    """
    seed = config.first_seed + points[0]["seed"]
    made, alpha = task(config, seed), torch.tensor([point["alpha"] for point in points]).double()
    draw = generator(seed, Criterion.SEARCH)
    # Centred, so κ at any α is exactly 1/α times that at α = 1; see criterion_scaling.
    at_one, how = Centred(made.net, 1.0), {"generator": draw, "starts": config.starts, "iterations": 200}
    with users_choice():  # of a scale, with which a net may be no longer smooth
        found = lazy_criterion(at_one, made.x, made.y, **how)
    across, tangent = ntk(made.net, made.x_test, made.x), made.tangent
    horizon = config.patience * made.time
    ends = [flow(made, alpha, config.loss_ratio, horizon, by * config.tolerance) for by in (1, 10)]
    fine, coarse = (
        torch.stack([
            function_norm(outputs - tangent.test(float(time), across))
            for time, outputs in zip(end.time, end.outputs, strict=True)
        ])
        for end in ends
    )  # fmt: skip
    travelled = float(tangent.displacement(made.time))
    size, drawn = float(flatten(trainable(made.net)).detach().norm()), made.recipe
    return [
        {
            "kappa_low": found.low / factor,
            "kappa": found.estimate / factor,
            "kappa_high": found.high / factor,
            "distance": float(fine[run]),
            "distance_coarse": float(coarse[run]),
            "inverse_alpha": 1 / factor,
            "motion": travelled / factor / size,
            "stretch": made.stretch,
            "second_order": found.second_derivative.low * travelled**2 / 2 / factor,
            "ratio": float(ends[0].ratio[run]),
            "trained": float(ends[0].arrived[run]),
            "width": float(drawn.width),
            "depth": float(drawn.depth),
            "scale": drawn.scale,
        }
        for run, factor in enumerate(alpha.tolist())
    ]
