"""Options of another kind than the architectures ask for, as users pass them who do not go through `build`."""

import inspect
import math

import pytest
import torch
from torch import nn

from regimes.models.blocks import basic, convolution, last_convolution, resnext
from regimes.models.build import ARCHITECTURES
from regimes.models.cifar_nets import bottleneck
from regimes.models.contractive import ContractiveStep, GradientConvolution, NormedLinear, UnitRows
from regimes.models.gradient_blocks import GradientField
from regimes.models.image_nets import head_of
from regimes.models.norm_bounds import gram_norm, gram_norm_of_convolution
from regimes.models.restricted import put_weight

WRONG = {
    int: ("two", 0, -1, 1.5, None, [1], math.nan),
    bool: ("two", 0, 1.5, None, [1]),
    float: ("two", 0.0, -1.0, None, [1], math.nan, math.inf),
    str: (0, None, [1], "no name"),
}
OPTIONAL = {"hidden", "groups", "downsample", "layers"}  # None is a choice there


def cases():
    for name, make in ARCHITECTURES.items():
        if name[6:].isdecimal() and name != "resnet164":  # preact_resnet at some depth
            continue
        for option, entry in inspect.signature(make).parameters.items():
            kind = next((each for each in (bool, int, float, str) if str(each.__name__) in str(entry.annotation)), None)
            if option != "shape" and kind is not None:
                yield pytest.param(name, option, kind, id=f"{name} {option}")


@pytest.mark.parametrize(("name", "option", "kind"), list(cases()))
def test_an_option_of_another_kind_is_refused(name, option, kind):
    for value in WRONG[kind]:
        fits = (option == "dense_blocks" and value == 0) or (option == "width" and name == "dense")
        if fits or (value is None and option in OPTIONAL):
            continue
        with torch.device("meta"), pytest.raises(ValueError):
            ARCHITECTURES[name]((3, 16, 16), **{"classes": 3, option: value})


PARTS = {
    "convolution": lambda value: convolution(value, 4),
    "convolution kernel": lambda value: convolution(4, 4, value),
    "convolution stride": lambda value: convolution(4, 4, stride=value),
    "convolution groups": lambda value: convolution(4, 4, groups=value),
    "last_convolution": last_convolution,
    "basic groups": lambda value: basic(4, groups=value),
    "resnext cardinality": lambda value: resnext(4, 64, cardinality=value, width=4),
    "resnext expansion": lambda value: resnext(4, 64, cardinality=2, width=4, expansion=value),
    "bottleneck": lambda value: bottleneck(value, 4),
    "bottleneck planes": lambda value: bottleneck(4, value),
    "head": lambda value: head_of("one_layer", 4, value),
    "UnitRows": lambda value: UnitRows(4, value),
    "NormedLinear": lambda value: NormedLinear(value, 4),
    "NormedLinear iterations": lambda value: NormedLinear(4, 4, iterations=value),
    "ContractiveStep iterations": lambda value: ContractiveStep(GradientField(4), iterations=value),
    "GradientConvolution": lambda value: GradientConvolution(value, (3, 3)),
    "gram_norm": lambda value: gram_norm(torch.eye(3), value or -1),  # 0 is the Frobenius norm
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_another_size_is_refused(part):
    for value in ("two", 0, -1, 1.5, [1]):
        with pytest.raises(ValueError, match="whole number"):
            PARTS[part](value)


def test_a_matrix_or_a_layer_that_is_none_is_refused():
    for call, words in (
        (lambda: gram_norm("a"), "matrices"),
        (lambda: gram_norm(torch.ones(3)), "matrices"),
        (lambda: gram_norm_of_convolution(torch.ones(1, 1, 2, 2), (3, 3)), "odd"),
        (lambda: gram_norm_of_convolution(torch.ones(1, 1, 3, 3), 3), "2 whole numbers"),
        (lambda: put_weight(nn.Linear(2, 2), "a"), "weight as a tensor"),
        (lambda: put_weight(nn.ReLU(), torch.eye(2)), "a layer with a weight"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("value", ["two", 0, -1, 1.5])
def test_a_width_of_another_kind_is_refused(value):
    with pytest.raises(ValueError, match="width as a whole number"):
        ARCHITECTURES["dense"]((2,), 3, width=value)


def test_groups_have_to_divide_what_is_normed_alone():
    make = ARCHITECTURES["resnet9"]
    with torch.device("meta"):
        make((1, 8, 8), 10, groups=32, head="one_layer")
        with pytest.raises(ValueError, match=r"filters and 10·classes; got 32 of 32 and 100"):
            make((1, 8, 8), 10, groups=32)
        with pytest.raises(ValueError, match="divide filters; got 3 of 32"):
            make((1, 8, 8), 10, groups=3, head="one_layer")
