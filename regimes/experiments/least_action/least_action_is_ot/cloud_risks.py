"""Risks that know the transported cloud: its distance to a target law, by moments or by sorting.

Each takes the output, the labels, and what it knows of the target as further tensors, so that runs can be stacked.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot


def moments(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean and covariance, the latter with the factor 1/n."""
    mean = x.mean(0)
    return mean, (x - mean).T @ (x - mean) / len(x)


def moment_risk(
    output: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    mean: Float[Tensor, "classes d"],
    root: Float[Tensor, "classes d d"],
    unit: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Squared Bures distance of each class's mean and covariance to its target's, weighted by the classes' shares.

    1/unit Σ_c (n_c/n) (‖m_c − mean_c‖² + tr(C_c + D_c − 2 (D_c^½ C_c D_c^½)^½)), D_c^½ = root_c: no factor ½, no root.
    A differentiable `bures_cost`: only eigenvalues are differentiated, so equal ones do no harm.
    """
    members = one_hot(labels, len(mean)).to(output.dtype).T
    share = members.sum(1) / len(output)
    own = members @ output / members.sum(1, keepdim=True)
    spread = (output - own[:, None]) * members[:, :, None]
    covariance = spread.mT @ spread / members.sum(1)[:, None, None]
    cross = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=1e-12).sqrt().sum(-1)
    size = covariance.diagonal(dim1=-2, dim2=-1).sum(-1) + root.square().sum((-2, -1))
    return (share * ((own - mean).square().sum(-1) + size - 2 * cross)).sum() / unit


def sorted_risk(
    output: Float[Tensor, "n 1"], labels: Int[Tensor, " n"], ordered: Float[Tensor, " n"], unit: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Squared distance W₂² on the line, by sorting: 1/(n·unit) Σ_i (t_(i) − y_(i))², no factor ½, no root."""
    return (output[:, 0].sort().values - ordered).square().mean() / unit


def label_risk(output: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean cross-entropy."""
    return cross_entropy(output, labels)
