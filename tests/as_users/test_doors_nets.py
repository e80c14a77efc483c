"""Options of another kind than the architectures ask for, as users pass them who do not go through `build`."""

import inspect
import math

import pytest
import torch

from regimes.models.build import ARCHITECTURES

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
