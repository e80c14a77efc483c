import inspect
import re

import pytest
import torch

from regimes.models import image_nets
from regimes.models.build import ARCHITECTURES, build, options
from regimes.models.residual import ResidualNet


def test_a_name_and_numbers_make_the_same_network_as_the_maker():
    torch.manual_seed(3)
    named = build("resnet9", (1, 8, 8), 3, filters=4, blocks=2)
    torch.manual_seed(3)
    made = image_nets.resnet9((1, 8, 8), 3, filters=4, blocks=2)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(named.eval()(x), made.eval()(x))
    assert isinstance(named, ResidualNet)


def test_options_are_those_of_the_makers_with_their_defaults():
    assert options("dense") == {"blocks": 9, "width": None, "hidden": None, "batch_norm": False, "head": True}
    for name, maker in ARCHITECTURES.items():
        for option, default in options(name).items():
            assert inspect.signature(maker).parameters[option].default == default


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_accepts_its_own_defaults_as_checked(name):
    from regimes.models.build import _check, _entries

    for option, entry in _entries(name).items():
        _check(f"{name} needs {option}", entry.default, entry)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("resnet8", {}, "arch needs one of dense, resnet9, resnext50.*; got 'resnet8'"),
        ("dense", {"depth": 3}, "dense has no option 'depth'; it has blocks, width, hidden, batch_norm, head"),
        ("dense", {"blocks": 0}, "dense needs blocks of at least 1; got 0"),
        ("dense", {"blocks": "9"}, "dense needs blocks of type int, like 9; got '9'"),
        ("dense", {"blocks": True}, "dense needs blocks of type int, like 9; got True"),
        ("dense", {"batch_norm": 1}, "dense needs batch_norm of type bool, like False; got 1"),
        ("dense", {"width": -4}, "dense needs width of at least 1; got -4"),
        ("dense", {"width": 2.5}, "dense needs width of type int or None"),
        ("resnet9", {"downsample": 3}, "resnet9 needs downsample of type bool or None"),
        ("resnet9", {"head": None}, "resnet9 needs head of type str"),
    ],
)
def test_bad_names_and_options_are_refused(name, given, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(name, (1, 8, 8), 3, **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("shape", "classes"), [((), 2), ((3, 0, 8), 2), ((3, 8, 8), 0)])
def test_empty_shapes_and_no_classes_are_refused(shape, classes):
    with pytest.raises(ValueError, match=re.escape(f"got {shape} and {classes}")):
        build("dense", shape, classes)
