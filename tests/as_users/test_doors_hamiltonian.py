"""Values of another kind than Hamiltonian blocks ask for, as users pass them."""

import pytest
import torch
from torch import nn

from regimes.activations import TANH
from regimes.models.hamiltonian_blocks import HamiltonianBlock, hamiltonian_convolution, hamiltonian_dense
from regimes.models.potentials import GradientOf, Potential


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: HamiltonianBlock(None, None), "needs potential"),
        (lambda: HamiltonianBlock("kinetic", torch.tanh), "kinetic as a function"),
        (lambda: HamiltonianBlock(None, torch.tanh, method="verlet"), "method as a Pair or Tableau"),
        (lambda: HamiltonianBlock(None, torch.tanh, size="long"), "size as a finite number"),
        (lambda: HamiltonianBlock(None, torch.tanh, time="noon"), "time as a number"),
        (lambda: hamiltonian_dense("4"), "width as a whole number"),
        (lambda: hamiltonian_dense(4, activation="tanh"), "needs an Activation"),
        (lambda: hamiltonian_dense(4, symmetric="yes"), "symmetric as True or False"),
        (lambda: hamiltonian_convolution(4, hidden=0), "hidden as a whole number"),
        (lambda: Potential(nn.Conv1d(2, 2, 3)), "linear as an nn.Linear or nn.Conv2d"),
        (lambda: Potential(nn.Linear(2, 2), activation=torch.tanh), "needs an Activation"),
        (lambda: GradientOf(TANH.name), "energy as a function"),
    ],
)
def test_what_is_asked_for_is_said(make, words):
    with pytest.raises(ValueError, match=words):
        make()
