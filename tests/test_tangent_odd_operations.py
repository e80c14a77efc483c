"""Operations whose derivatives torch gets wrong, or crashes on, in the ways that are quick elsewhere."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import regimes

# torch crashes in the forward mode of these while tensors are counted: a scaled sum of a number that has a derivative
# and one that has none.
FORWARD = """
import torch
from torch import nn
import regimes

class Net(nn.Module):
    def __init__(self, combine):
        super().__init__()
        self.one, self.two, self.combine = nn.Linear(3, 3), nn.Linear(3, 2), combine

    def forward(self, x):
        return self.two(self.combine(self.one(x), x).tanh())

ways = {
    "add": lambda h, x: torch.add(h, x, alpha=0.5),
    "sub": lambda h, x: torch.sub(h, x, alpha=0.5),
    "addcmul": lambda h, x: torch.addcmul(h, h, x, value=0.5),
    "addcdiv": lambda h, x: torch.addcdiv(h, h, x.square() + 1, value=0.5),
}
torch.manual_seed(0)
for name, combine in ways.items():
    model, x, v = Net(combine).double(), torch.randn(9, 3).double(), torch.randn(9, 2).double()
    operator = regimes.tangent_operator(model, x)
    expected = torch.einsum("ijab,jb->ia", operator.gram(), v)
    torch.testing.assert_close(operator.matvec(v), expected, rtol=1e-9, atol=1e-12)
print("right")
"""


def test_products_with_scaled_sums_do_not_end_the_process():
    done = subprocess.run(
        [sys.executable, "-c", FORWARD], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "right", (done.returncode, done.stderr)


class Implicit(nn.Module):
    """The solution of z = W z + x, by one of torch's solvers."""

    def __init__(self, solver: str) -> None:
        super().__init__()
        self.weight, self.solver = nn.Parameter(0.3 * torch.randn(3, 3)), solver

    def forward(self, x):
        matrix = torch.eye(3, dtype=x.dtype) - self.weight
        if self.solver == "solve":
            return torch.linalg.solve(matrix, x.T).T
        return torch.linalg.lu_solve(*torch.linalg.lu_factor(matrix), x.T).T


@pytest.mark.parametrize("solver", ["solve", "lu_solve"])
@pytest.mark.parametrize("n", [2, 6, 9])
def test_the_kernel_of_an_implicit_layer_is_right_for_every_sample(solver, n):
    torch.manual_seed(0)
    net, x = Implicit(solver).double(), torch.randn(n, 3).double()
    rows = [
        torch.stack([torch.autograd.grad(each, net.weight, retain_graph=True)[0].flatten() for each in net(sample)[0]])
        for sample in x.split(1)
    ]
    expected = torch.einsum("iap,jbp->ijab", torch.stack(rows), torch.stack(rows))
    assert_close(regimes.ntk(net, x), expected, rtol=1e-9, atol=1e-12)
    assert_close(regimes.ntk(net, x, x[:5], outputs="trace"), expected[:, :5].diagonal(0, 2, 3).sum(2))
