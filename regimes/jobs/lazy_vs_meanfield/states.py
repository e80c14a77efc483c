"""The two nets of the main job before and after training, in files of the run folder that `diagnose` takes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regimes.activations import activation
from regimes.conventions import generator
from regimes.errors import UserError, one_line, out_of_memory
from regimes.jobs.lazy_vs_meanfield.config import Config
from regimes.jobs.lazy_vs_meanfield.nets import Net
from regimes.jobs.lazy_vs_meanfield.problem import Problem
from regimes.lab.runs import RunFolder
from regimes.lab.tensor_files import write_tensors
from regimes.meanfield.particles import Particles
from regimes.models.two_layer import TwoLayer

PROGRAM = "regimes lazy-vs-meanfield"
FILES = ("scaled-net.pt", "mean-field-net.pt")
TENSORS = {"start": 2, "end": 2, "x": 1, "y": 1, "x_test": 1}  # how many each


class States(NamedTuple):
    """α h before and after, one seed, its training samples and test inputs."""

    start: nn.Module
    end: nn.Module
    x: Tensor
    y: Tensor
    x_test: Tensor
    title: str


def write_states(folder: RunFolder, config: Config, given: Problem, nets: Sequence[Net]) -> None:
    """One file a net, of the seed that the figure draws."""
    seed = given.drawn
    for file, net, alpha in zip(FILES, nets, (config.alpha, 1.0), strict=True):
        content: dict[str, Any] = {
            "program": PROGRAM,
            "activation": config.activation,
            "alpha": alpha,
            "title": f"the {file.removesuffix('-net.pt')} net of lazy-vs-meanfield, α = {alpha:g}, "
            f"{config.dataset}, seed {seed}",
            "start": [part[seed] for part in given.start],
            "end": [part[seed] for part in net.ends[0]],
            **{name: [getattr(given, name)[seed]] for name in ("x", "y", "x_test")},
        }
        write_tensors(folder.path / file, content)


def read_states(content: dict[str, Any], where: str) -> States:
    """The nets and samples of such a file; UserError where parts are missing."""
    try:
        tensors = {name: [torch.as_tensor(part).cpu() for part in content[name]] for name in TENSORS}
        if (there := {name: len(parts) for name, parts in tensors.items()}) != TENSORS:
            raise ValueError(f"it has {there} tensors, and needs {TENSORS}")
        start, end = (_net(content, Particles(*tensors[name])) for name in ("start", "end"))
        x, y, x_test = (tensors[name][0] for name in ("x", "y", "x_test"))
        return States(start, end, x, y, x_test, str(content["title"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = one_line(error, 200)
        unfit = UserError(f"{where} lacks parts of a net of lazy-vs-meanfield, or they were altered: {reason}")
        raise error if out_of_memory(error) else unfit from None


def _net(content: dict[str, Any], particles: Particles) -> nn.Module:
    (m, k), (_, d) = particles.output.shape, particles.input.shape
    unit = activation(content["activation"])
    net = TwoLayer(d, m, k, activation=unit, generator=generator(0), scale=float(content["alpha"]) / m)
    net.load_state_dict({"output_weights": particles.output, "input_weights": particles.input})
    return net
