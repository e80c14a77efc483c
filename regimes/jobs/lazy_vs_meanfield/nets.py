"""One net, all its seeds as one ensemble, trained by an adaptive integrator with a measured error."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from regimes.activations import activation
from regimes.control.state import IntegratorState
from regimes.conventions import function_norm, square_risk
from regimes.errors import RunFailed
from regimes.jobs.lazy_vs_meanfield.config import Config
from regimes.jobs.lazy_vs_meanfield.kernels import KernelModels
from regimes.jobs.lazy_vs_meanfield.problem import Problem, losses
from regimes.jobs.lazy_vs_meanfield.shelf import Shelf
from regimes.lab.array_files import Arrays
from regimes.lab.progress import Progress
from regimes.meanfield.displacement import displaced, displacement_flow
from regimes.meanfield.particles import Particles
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.tangent import laziness

LOSS_CURVES = ("train_loss", "train_error", "test_loss", "test_error")
NET_CURVES = (
    "weight_motion", "activation_flips", "activation_flips_error", "tangent_distance", "train_departure",
    "integration_error",
)  # fmt: skip
COARSER = 10.0  # the second integration, for the measured error, has this many times the tolerance


class Net(NamedTuple):
    """One net, trained up to one of the moments, or to the end: curves (seeds, times) by quantity, NaN from there on.

    `ends` are the particles where each seed met the criterion (or so far), by the fine and by the coarse integration;
    `path` holds those of the drawn seed at every moment from 0, `courses` where the two integrations stand.
    """

    curves: dict[str, np.ndarray]
    ends: tuple[Particles, Particles]
    path: list[Particles]
    courses: tuple[IntegratorState, ...]
    done: Tensor  # which seeds have met the criterion
    moments: int  # measured so far

    @property
    def finished(self) -> bool:
        """Whether there is nothing more to train."""
        return bool(self.done.all()) or self.moments == self.curves["train_loss"].shape[1]

    @property
    def steps(self) -> int:
        """Attempted steps so far, those of the seed that needs most; the work, as each step costs the same."""
        return sum(int((course.steps + course.rejected).max()) for course in self.courses)

    def arrays(self) -> Arrays:
        """All of it as named arrays."""
        flat = {f"curve/{name}": curve for name, curve in self.curves.items()}
        for name, particles in (("fine", self.ends[0]), ("coarse", self.ends[1])):
            flat |= {f"{name}/{part}": value.cpu().numpy() for part, value in particles._asdict().items()}
        for part in Particles._fields:
            flat[f"path/{part}"] = np.stack([getattr(at, part).cpu().numpy() for at in self.path[: self.moments + 1]])
        for number, course in enumerate(self.courses):
            flat |= {f"course{number}/{i}": tensor.cpu().numpy() for i, tensor in enumerate(course.tensors())}
        return {**flat, "done": self.done.cpu().numpy(), "moments": np.array(self.moments)}

    @classmethod
    def read(cls, flat: Arrays, device: str) -> "Net":
        """The net from such arrays."""

        def tensors(group: str) -> list[Tensor]:
            found = [value for name, value in flat.items() if name.startswith(f"{group}/")]
            return [torch.from_numpy(value).to(device) for value in found]

        curves = {name.removeprefix("curve/"): value for name, value in flat.items() if name.startswith("curve/")}
        moments = int(flat["moments"])
        for curve in curves.values():
            curve[:, moments:] = np.nan
        path = [Particles(*parts) for parts in zip(*tensors("path"), strict=True)]
        courses = tuple(IntegratorState.of(tensors(f"course{number}")) for number in range(2))
        ends = (Particles(*tensors("fine")), Particles(*tensors("coarse")))
        return cls(curves, ends, path, courses, torch.from_numpy(flat["done"]).to(device), moments)


def train_net(
    config: Config, given: Problem, times: Tensor, kernels: KernelModels, alpha: float, name: str, shelf: Shelf
) -> Net:
    """Particle flow of all seeds at scale α, until each training loss has fallen by `loss_ratio`, or to the end.

    The shelf keeps the net under its name; one that lies there is trained on, to the same bits on a CPU.
    """
    kept = shelf.take(name)
    net = _fresh(config, given) if kept is None else Net.read(kept, config.device)
    if net.finished:
        return net
    goal = config.loss_ratio * square_risk(torch.zeros_like(given.y), given.y).cpu().numpy()
    latest = _tangent_end(goal, times, kernels)
    with Progress(f"training at α = {alpha:g}", 1, net.steps) as bar:
        try:
            for after in _moments(config, given, times, kernels, alpha, net):
                before, net = net, after
                shelf.hold(name, net.arrays)
                t = float(times[net.moments - 1])
                bar.update(net.steps, lambda t=t: f"t = {t:.3g}", _steps_in_all(before, net, times, goal, latest))
        except RunFailed as error:
            reached = float(times[net.moments - 1]) if net.moments else 0.0
            raise RunFailed(
                f"the net at α = {alpha:g} cannot be trained beyond t = {reached:.3g}: its steps become too many or "
                f"too small. Take a shorter horizon (now {config.horizon:g}), a larger tolerance (now "
                f"{config.tolerance:g}) or loss_ratio (now {config.loss_ratio:g}), or an α nearer to 1."
            ) from error
    shelf.flush()
    return net


def _fresh(config: Config, given: Problem) -> Net:
    start = given.start
    curves = {name: np.full((config.seeds, config.times), np.nan) for name in (*LOSS_CURVES, *NET_CURVES)}
    none = torch.zeros(start.runs, dtype=torch.bool, device=start.output.device)
    return Net(curves, (start, start), [_one(start, given.drawn)], (), none, 0)


def _moments(config: Config, given: Problem, times: Tensor, kernels: KernelModels, alpha: float, net: Net):
    """The net at each further moment, with what is measured there, until all seeds have met the criterion."""
    start = given.start
    goal = config.loss_ratio * square_risk(torch.zeros_like(given.y), given.y)
    gates = _preactivations(start, given.x)
    # Two risks, because each keeps work memory and the two integrations take turns.
    risk, coarse_risk = (TwoLayerRisk(given.x, given.y, activation(config.activation), alpha=alpha) for _ in range(2))
    rest = times[net.moments :].tolist()
    flows = (
        displacement_flow(each, start, rest, rtol=tolerance, atol=tolerance, after=course)
        for each, tolerance, course in (
            (risk, config.tolerance, net.courses[0] if net.courses else None),
            (coarse_risk, COARSER * config.tolerance, net.courses[1] if net.courses else None),
        )
    )
    for index, solutions in enumerate(zip(*flows, strict=True), net.moments):
        fine, coarse = (displaced(start, solution.moved, alpha) for solution in solutions)
        test, test_coarse = (risk.outputs(particles, given.x_test) for particles in (fine, coarse))
        flips, flips_coarse = (
            laziness.activation_flips(_preactivations(particles, given.x), gates) for particles in (fine, coarse)
        )
        train = risk.outputs(fine)
        train_loss, train_error = losses(train, given.y, given.classes)
        test_loss, test_error = losses(test, given.y_test, given.classes)
        measured = {
            "train_loss": train_loss,
            "train_error": train_error,
            "test_loss": test_loss,
            "test_error": test_error,
            "weight_motion": laziness.weight_motion(fine, start, runs=1),
            "activation_flips": flips,
            "activation_flips_error": (flips - flips_coarse).abs(),
            "tangent_distance": laziness.tangent_distance(test, kernels.tangent_test[index]),
            "train_departure": function_norm(train - kernels.tangent_train[index]) / function_norm(given.y),
            "integration_error": _relative(test_coarse - test, test),
        }
        for quantity, value in measured.items():
            net.curves[quantity][:, index] = value.cpu().numpy()
        ends = (_where(net.done, net.ends[0], fine), _where(net.done, net.ends[1], coarse))
        path = [*net.path, _one(ends[0], given.drawn)]
        courses = tuple(solution.course for solution in solutions)
        net = Net(net.curves, ends, path, courses, net.done | (train_loss <= goal), index + 1)
        yield net
        if net.finished:
            return


def _tangent_end(goal: np.ndarray, times: Tensor, kernels: KernelModels) -> float:
    """When the tangent models of all seeds have met the criterion, or the horizon: nets rarely need longer."""
    met = (kernels.curves["train_loss"][0] <= goal[:, None]).all(0)
    return float(times[int(met.argmax())]) if met.any() else float(times[-1])


def _steps_in_all(before: Net, now: Net, times: Tensor, goal: np.ndarray, latest: float) -> int:
    """Estimate of all steps, at the present number of steps a unit of time: stability bounds the steps of the flow.

    The end is where the training loss meets the goal if it goes on as a power of time, at the latest at `latest`.
    """
    here, last = float(times[now.moments - 1]), float(times[now.moments - 2]) if now.moments > 1 else 0.0
    end = latest if here < latest else float(times[-1])
    if now.moments > 1:
        waiting = ~now.done.cpu().numpy()
        old, new = (np.log(now.curves["train_loss"][waiting, now.moments - each]) for each in (2, 1))
        slopes = np.minimum((new - old) / np.log(here / last), -1e-3)
        ends = here * np.exp(np.minimum((np.log(goal[waiting]) - new) / slopes, 50.0))
        end = min(end, float(ends.max(initial=here)))
    return now.steps + int((now.steps - before.steps) / (here - last) * (end - here))


def _one(particles: Particles, run: int) -> Particles:
    return particles.select(slice(run, run + 1))


def _where(done: Tensor, old: Particles, new: Particles) -> Particles:
    return Particles(*(torch.where(done[:, None, None], *pair) for pair in zip(old, new, strict=True)))


def _relative(difference: Tensor, outputs: Tensor) -> Tensor:
    """‖difference‖ / ‖outputs‖ of each run; of outputs that have died out 0 where both have, else ∞."""
    above, below = function_norm(difference), function_norm(outputs)
    return torch.where(above == 0, 0.0, above / below)


def _preactivations(particles: Particles, x: Tensor) -> Tensor:
    """b_j·x_i of each run, (runs, n, m)."""
    return x @ particles.input.mT
