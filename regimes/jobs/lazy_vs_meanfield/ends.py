"""What figure and verdict need besides the curves: kernels at both ends of training, particle paths in a plane."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from regimes.activations import activation
from regimes.jobs.lazy_vs_meanfield.config import Config
from regimes.jobs.lazy_vs_meanfield.nets import Net
from regimes.jobs.lazy_vs_meanfield.problem import Problem
from regimes.meanfield.kernel import tangent_kernel
from regimes.meanfield.particles import Particles
from regimes.tangent import laziness
from regimes.tangent.spectrum import merge_outputs

KERNEL_POINTS = 100  # training samples on which spectra and drift of the kernel are taken


def ends_of_training(config: Config, given: Problem, nets: Sequence[Net]) -> dict[str, np.ndarray]:
    """Kernels at the start and at the end of training (fine and coarse integration), particle paths in a plane."""
    x = given.x[:, :KERNEL_POINTS]
    sigma = activation(config.activation)

    def kernel(particles: Particles) -> Tensor:
        full = merge_outputs(tangent_kernel(particles, x, x, sigma))
        return (full + full.mT) / 2

    def spectrum(kernel: Tensor) -> np.ndarray:
        return (torch.linalg.eigvalsh(kernel).flip(-1).clamp(min=0) / x.shape[1]).cpu().numpy()

    before = kernel(given.start)
    after = [kernel(net.ends[0]) for net in nets]
    drift = [laziness.kernel_drift(kernel, before).cpu().numpy() for kernel in after]
    coarse = [laziness.kernel_drift(kernel(net.ends[1]), before).cpu().numpy() for net in nets]
    axes, plane = _plane(given, (_drawn(nets[1].ends[0]) - _drawn(given.start))[given.drawn])
    paths = [torch.cat([_drawn(particles) @ axes for particles in net.path]).cpu().numpy() for net in nets]
    longest = max(map(len, paths))
    teacher = np.zeros((0, 2)) if given.teacher is None else (given.teacher.particles.to(axes) @ axes).cpu().numpy()
    return {
        "kernel_drift": np.stack(drift),
        "kernel_drift_error": np.abs(np.stack(coarse) - np.stack(drift)),
        "spectrum_start": spectrum(before),
        "spectrum_end": np.stack([spectrum(kernel) for kernel in after]),
        # A path that ends early stays where it ended.
        "paths": np.stack([np.concatenate([path, path[-1:].repeat(longest - len(path), 0)]) for path in paths]),
        "signs": np.stack([net.ends[0].output[given.drawn, :, 0].sign().cpu().numpy() for net in nets]),
        "teacher": teacher,
        "teacher_signs": np.zeros(0) if given.teacher is None else given.teacher.output[:, 0].sign().cpu().numpy(),
        "plane": np.array(plane),
        "drawn": np.array(given.drawn),
    }


def _drawn(particles: Particles) -> Tensor:
    """|a_j| b_j, where a neuron is drawn; |a_j| is the norm over outputs."""
    return particles.output.norm(dim=-1, keepdim=True) * particles.input


def _plane(given: Problem, moved: Tensor) -> tuple[Tensor, tuple[str, str]]:
    """Two orthonormal directions (d, 2) in which the particles of one seed are drawn, and their names."""
    d = given.x.shape[-1]
    if d == 2:
        return torch.eye(2).to(moved), ("|a| b₁", "|a| b₂")
    if given.teacher is not None and len(given.teacher.particles) > 2:
        # Through the tips of the teacher's neurons: seen along their mean, they point away from each other.
        neurons = given.teacher.particles.to(moved)
        axes = torch.linalg.svd(neurons - neurons.mean(0)).Vh[:2].mT
        return axes, ("|a| b, teacher plane, axis 1", "axis 2")
    axes = torch.linalg.svd(moved, full_matrices=False).Vh[:2].mT
    return axes, ("|a| b along main motion 1", "main motion 2")
