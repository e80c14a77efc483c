"""All models of one comparison on the same data at the same flow times, as arrays.

Both nets start from the same doubled particles, so that each output is 0 at t = 0, and follow the particle flow
w' = −m ∇F_α(w), F_α(w) = R(α h(w))/α². In this time the tangent model of every α is one linear flow,
d/dt f = −Θ_0 (f − y)/n, which is solved exactly. The seeds of a net are one ensemble, integrated twice, at the
tolerance and at ten times the tolerance: the distance between the two is the measured integration error.
"""

from typing import NamedTuple

import numpy as np
import torch

from regimes.conventions import square_risk
from regimes.jobs.lazy_vs_meanfield.bound import proved_bounds
from regimes.jobs.lazy_vs_meanfield.config import Config
from regimes.jobs.lazy_vs_meanfield.ends import ends_of_training
from regimes.jobs.lazy_vs_meanfield.kernels import KernelModels, refuse_zero, solve_kernels
from regimes.jobs.lazy_vs_meanfield.nets import NET_CURVES, train_net
from regimes.jobs.lazy_vs_meanfield.problem import Problem, problem
from regimes.jobs.lazy_vs_meanfield.shelf import Shelf
from regimes.jobs.lazy_vs_meanfield.states import write_states
from regimes.meanfield.layout import tile_work
from regimes.threads import threads_for

MODELS = ("lazy", "tangent", "mean_field", "infinite_width")


class Measurement(NamedTuple):
    """Arrays over the axes models (as MODELS), nets (as NETS), seeds, times; NaN after a net has stopped."""

    times: np.ndarray  # (times,) flow times
    train_loss: np.ndarray  # (models, seeds, times), ½ mean square
    test_loss: np.ndarray
    train_error: np.ndarray  # share of wrong classes; NaN for a regression
    test_error: np.ndarray
    weight_motion: np.ndarray  # (nets, seeds, times)
    activation_flips: np.ndarray
    activation_flips_error: np.ndarray  # difference between the two integrations
    tangent_distance: np.ndarray
    train_departure: np.ndarray  # ‖f − f̄‖ / ‖y‖ on the training inputs
    integration_error: np.ndarray
    stop: np.ndarray  # (models, seeds): index into times at which the criterion was met, or the last one
    reached: np.ndarray  # (models, seeds): whether it was met
    kernel_drift: np.ndarray  # (nets, seeds), at the stop
    kernel_drift_error: np.ndarray
    spectrum_start: np.ndarray  # (seeds, points), eigenvalues of Θ/n
    spectrum_end: np.ndarray  # (nets, seeds, points)
    condition: np.ndarray  # (kernels, seeds), of the full training kernels
    bound_time: (
        np.ndarray
    )  # (nets, seeds): time T up to which Theorem 2.3 bounds train_departure; NaN where it does not
    bound: np.ndarray
    paths: np.ndarray  # (nets, times, m, 2): |a| b of the drawn seed in the plane of the figure
    signs: np.ndarray  # (nets, m): sign of a at the end (of its first output)
    teacher: np.ndarray  # (m0, 2): teacher neurons in that plane; empty where there is none
    teacher_signs: np.ndarray  # (m0,): signs of their output weights
    plane: np.ndarray  # the names of its two axes
    drawn: np.ndarray = np.array(0)  # that seed: the first whose teacher has neurons of both signs, if there is one


def measure(config: Config, shelf: Shelf | None = None) -> Measurement:
    """Run the whole comparison; the costly part of the command. What lies on the shelf is not done again."""
    given = problem(config)
    with threads_for(tile_work(config.seeds, config.width, given.x)):
        return _measure(config, given, Shelf() if shelf is None else shelf)


def _measure(config: Config, given: Problem, shelf: Shelf) -> Measurement:
    times = torch.logspace(-2, float(np.log10(config.horizon)), config.times, dtype=torch.float64)
    kept = shelf.take("kernels")
    kernels = solve_kernels(config, given, times) if kept is None else KernelModels.read(kept, config.device)
    if kept is None:
        shelf.hold("kernels", kernels.arrays)
        shelf.flush()
    refuse_zero(config, kernels.tangent_test)
    # At α = 1 the scaled net is the mean-field net: one training.
    scales = {config.alpha: "scaled-net", 1.0: "mean-field-net"}
    trained = {alpha: train_net(config, given, times, kernels, alpha, name, shelf) for alpha, name in scales.items()}
    nets = [trained[alpha] for alpha in (config.alpha, 1.0)]
    if shelf.folder is not None:
        write_states(shelf.folder, config, given, nets)
    bounds = np.array([proved_bounds(config, given, alpha) for alpha in (config.alpha, 1.0)])
    tangent, infinite = ({name: curve[k] for name, curve in kernels.curves.items()} for k in range(2))
    order = (nets[0].curves, tangent, nets[1].curves, infinite)  # as MODELS
    train_loss, test_loss, train_error, test_error = (
        np.stack([curves[quantity] for curves in order])
        for quantity in ("train_loss", "test_loss", "train_error", "test_error")
    )
    goal = config.loss_ratio * square_risk(torch.zeros_like(given.y), given.y).cpu().numpy()
    with np.errstate(invalid="ignore"):
        met = train_loss <= goal[:, None]
    last = np.where(np.isnan(train_loss), -1, np.arange(config.times)).max(-1)
    reached = np.asarray(met.any(-1))
    return Measurement(
        times=times.numpy(),
        train_loss=train_loss,
        test_loss=test_loss,
        train_error=train_error,
        test_error=test_error,
        stop=np.where(reached, met.argmax(-1), last),
        reached=reached,
        condition=kernels.condition,
        bound_time=bounds[..., 0],
        bound=bounds[..., 1],
        **{quantity: np.stack([net.curves[quantity] for net in nets]) for quantity in NET_CURVES},
        **ends_of_training(config, given, nets),
    )
