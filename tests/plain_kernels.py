"""Tangent kernels as one writes them first: a backward pass for each output of each sample, alone."""

import torch


def slow_jacobian(model, x):
    """(n, k, p) by one backward pass for each output of each sample, alone."""
    rows = []
    params = [p for p in model.parameters() if p.requires_grad]
    for sample in x:
        outputs = model(sample[None]).reshape(-1)
        for output in outputs:
            grads = torch.autograd.grad(output, params, retain_graph=True, allow_unused=True)
            rows.append(
                torch.cat(
                    [(torch.zeros_like(p) if g is None else g).reshape(-1) for p, g in zip(params, grads, strict=True)]
                )
            )
    return torch.stack(rows).view(len(x), -1, rows[0].numel())


def slow_ntk(model, x1, x2):
    return torch.einsum("iap,jbp->ijab", slow_jacobian(model, x1), slow_jacobian(model, x2))
