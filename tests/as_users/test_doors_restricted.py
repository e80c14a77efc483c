"""Values of another kind than restricted layers and their fields ask for, as users pass them."""

import pytest
import torch
from torch import nn

from regimes.models.potentials import convolutional_potential, dense_potential
from regimes.models.restricted import AntisymmetricField, DissipativeField, negative_definite, skew


def set_to(make, weight):
    make(nn.Linear(4, 4)).weight = weight


CASES = {
    "a skew matrix of another width": (lambda: set_to(skew, torch.zeros(5, 5)), "4, 4"),
    "a definite matrix of another width": (lambda: set_to(negative_definite, -torch.eye(5)), "4, 4"),
    "a vector for a skew matrix": (lambda: set_to(skew, torch.zeros(4)), "4, 4"),
    "a skew matrix of NaN": (lambda: set_to(skew, torch.full((4, 4), torch.nan)), "finite"),
    "a definite matrix of NaN": (lambda: set_to(negative_definite, torch.full((4, 4), torch.nan)), "finite"),
    "an infinite skew matrix": (lambda: set_to(skew, torch.full((4, 4), torch.inf)), "finite"),
    "a matrix of whole numbers": (lambda: set_to(skew, torch.zeros(4, 4, dtype=torch.int64)), "fractions"),
    "a word for a width": (lambda: AntisymmetricField("a"), "width as a whole number"),
    "a fraction for a width": (lambda: AntisymmetricField(3.0), "width as a whole number"),
    "a word for the width of a field with loss": (lambda: DissipativeField(dense_potential(4), "a"), "whole number"),
    "an energy of another width": (lambda: DissipativeField(dense_potential(4), 3), "energy of 3 features"),
    "an energy of images": (lambda: DissipativeField(convolutional_potential(4), 4), "convolution"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_asked_for_is_said(name):
    call, words = CASES[name]
    with pytest.raises(ValueError, match=words):
        call()
