"""What figure and verdict need besides the curves: kernels at both ends of training, particle paths in a plane."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regimes.activations import activation
from regimes.experiments.lazy_vs_meanfield.config import Config
from regimes.experiments.lazy_vs_meanfield.problem import NETS, Problem
from regimes.meanfield.particles import Particles
from regimes.meanfield.two_layer import tangent_kernel
from regimes.tangent import laziness
from regimes.tangent.spectrum import merge_outputs

KERNEL_POINTS = 100  # training samples on which spectra and drift of the kernel are taken


def end_figures(
    config: Config, given: Problem, start: Particles, ends: Sequence[Particles], paths: Sequence[Particles]
) -> dict[str, Any]:
    """Kernels at the start and at the end of training (fine and coarse integration), particle paths in a plane."""
    members, seeds = len(NETS), config.seeds
    x = given.x[:, :KERNEL_POINTS]
    sigma = activation(config.activation)
    kernels = [merge_outputs(tangent_kernel(particles, x, x, sigma)) for particles in (start, *ends)]
    before, after, after_coarse = ((kernel + kernel.mT) / 2 for kernel in kernels)
    drift = laziness.kernel_drift(after, before)
    drift_error = laziness.kernel_drift(after_coarse, before) - drift
    by_net = [
        (torch.linalg.eigvalsh(kernel).flip(-1).clamp(min=0) / x.shape[1])
        .unflatten(0, (seeds, members))
        .transpose(0, 1)
        for kernel in (before, after)
    ]
    end = ends[0]
    axes, plane = _plane(given, end)
    points = torch.stack([_drawn(particles) @ axes for particles in paths], 1)  # (nets, moments, m, 2)
    teacher = torch.zeros(0, 2) if given.teacher is None else given.teacher.particles.to(axes) @ axes
    return {
        "kernel_drift": drift.reshape(seeds, members).T.cpu().numpy(),
        "kernel_drift_error": drift_error.abs().reshape(seeds, members).T.cpu().numpy(),
        "spectrum_start": by_net[0][0].cpu().numpy(),
        "spectrum_end": by_net[1].cpu().numpy(),
        "paths": points.cpu().numpy(),
        "signs": end.output[:members, :, 0].sign().cpu().numpy(),
        "teacher": teacher.cpu().numpy(),
        "plane": np.array(plane),
    }


def _drawn(particles: Particles) -> Tensor:
    """|a_j| b_j, where a neuron is drawn; |a_j| is the norm over outputs."""
    return particles.output.norm(dim=-1, keepdim=True) * particles.input


def _plane(given: Problem, end: Particles) -> tuple[Tensor, tuple[str, str]]:
    """Two orthonormal directions (d, 2) in which the particles of the first seed are drawn, and their names."""
    d = given.x.shape[-1]
    if d == 2:
        return torch.eye(2).to(end.input), ("|a| b₁", "|a| b₂")
    if given.teacher is not None and len(given.teacher.particles) > 2:
        # Through the tips of the teacher's neurons: seen along their mean, they point away from each other.
        neurons = given.teacher.particles.to(end.input)
        axes = torch.linalg.svd(neurons - neurons.mean(0)).Vh[:2].mT
        return axes, ("|a| b, teacher plane, axis 1", "axis 2")
    axes = torch.linalg.svd(_drawn(end)[NETS.index("mean_field")], full_matrices=False).Vh[:2].mT
    return axes, ("|a| b, principal axis 1", "principal axis 2")
