import pytest
import torch
from torch import nn

import regimes
from regimes.models.contractive import ContractiveStep, Padded, PairSort
from regimes.models.lipschitz import radii
from regimes.models.norm_bounds import norm_bound, norm_bound_of_convolution, power_norm

IMAGES = torch.rand(3, 4)
NET = nn.Linear(4, 2)
DRAW = torch.Generator().manual_seed(0)
CASES = {
    "a function for a network": (lambda: regimes.certified_radius(torch.relu, IMAGES), "torch module"),
    "a class for a network": (lambda: regimes.lipschitz_bound(nn.Linear), "torch module"),
    "whole numbers for images": (lambda: regimes.certified_radius(NET, torch.ones(3, 4, dtype=torch.uint8)), "float"),
    "an image that is not finite": (lambda: regimes.certified_radius(NET, IMAGES / 0), "finite"),
    "a deviation for each channel": (
        lambda: regimes.certified_radius(NET, IMAGES, deviation=torch.ones(3)),
        "one number",
    ),
    "no deviation at all": (lambda: regimes.certified_radius(NET, IMAGES, deviation=0.0), "above 0"),
    "batches of none": (lambda: regimes.certified_radius(NET, IMAGES, batch=0), "batch"),
    "images of another width": (lambda: regimes.certified_radius(NET, torch.rand(3, 5)), "Change the shape"),
    "outputs that are not finite": (lambda: radii(torch.tensor([[1.0, torch.nan]]), 1.0), "finite outputs"),
    "a bound that is no number": (lambda: radii(torch.eye(2), torch.nan), "bounds"),
    "a bound below 0": (lambda: radii(torch.eye(2), -1.0), "bounds"),
    "bounds below 0": (lambda: radii(torch.eye(2), -torch.ones(2, 2)), "bounds"),
    "bounds of other classes": (lambda: radii(torch.rand(2, 3), torch.ones(2, 2)), "k is 3 and 2"),
    "one bound for each class": (lambda: radii(torch.eye(2), torch.ones(2)), "bounds"),
    "pairs of three": (lambda: PairSort()(torch.rand(2, 3)), "even number of features"),
    "outputs without classes": (lambda: radii(torch.ones(3), 1.0), "outputs"),
    "a vector for a matrix": (lambda: norm_bound(torch.ones(3)), "matrices"),
    "a complex matrix": (lambda: norm_bound(torch.ones(2, 2, dtype=torch.complex64)), "imaginary"),
    "a matrix of 16 bits": (lambda: norm_bound(torch.ones(2, 2, dtype=torch.bfloat16)), "16 bits"),
    "one size of an image": (lambda: norm_bound_of_convolution(torch.ones(1, 1, 3, 3), (4,)), "2 whole numbers"),
    "a kernel that is not finite": (lambda: norm_bound_of_convolution(torch.ones(1, 1, 3, 3) / 0, (4, 4)), "finite"),
    "a seed for a generator": (lambda: power_norm(torch.ones(2, 2), generator=0), "torch.Generator"),
    "a vector for a matrix in power iteration": (lambda: power_norm(torch.ones(3), generator=DRAW), "matrix"),
    "a matrix of 16 bits in power iteration": (lambda: power_norm(torch.eye(2).half(), generator=DRAW), "16 bits"),
    "whole numbers in power iteration": (lambda: power_norm(torch.ones(2, 2).int(), generator=DRAW), "fractions"),
    "a matrix of NaN in power iteration": (lambda: power_norm(torch.eye(2) / 0, generator=DRAW), "finite"),
    "a layer for a field": (lambda: ContractiveStep(nn.Linear(3, 3)), "gradient field"),
    "a shape of halves": (lambda: Padded((1.5,)), "shape"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_certificate_cannot_be_made_of_is_refused_in_words(name):
    call, words = CASES[name]
    with pytest.raises(ValueError, match=words):
        call()
