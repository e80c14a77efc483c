"""`train --reversible`: what goes with it, and one line for what does not."""

import pytest

from regimes.errors import UserError
from regimes.processes import SINGLE
from regimes.training.assemble import check
from regimes.training.checkpoint import network_of
from regimes.training.config import TrainConfig
from regimes.training.side_by_side import refuse_unfit


def settings(**changes):
    return TrainConfig(dataset="digits", reversible=True, **changes)


@pytest.mark.parametrize("arch", ["dense", "resnet9", "resnet20", "hamiltonian", "contractive", "odenet"])
def test_nets_with_residual_blocks_are_rebuilt(arch):
    check(settings(arch=arch, lap=True))
    assert network_of(settings(arch=arch), (1, 8, 8), 10).segment(0).exact == (arch == "hamiltonian")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lap": True, "p": 3.0}, "the cost at p=2"),
        ({"precision": "bf16"}, "bfloat16 rounds"),
        ({"compile": True}, "cannot be compiled"),
        ({"mean_field": True}, "leave out one"),
        ({"arch": "vgg11"}, "no residual blocks to rebuild"),
    ],
)
def test_what_does_not_go_with_rebuilding_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        check(settings(**changes))


def test_seeds_side_by_side_are_refused():
    with pytest.raises(UserError, match="side by side keep their states"):
        refuse_unfit(settings(seeds=2), SINGLE)
