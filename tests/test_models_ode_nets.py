"""ODENet: layers with learned steps, free or on the simplex."""

import pytest
import torch
from torch.testing import assert_close

from regimes.errors import UserError
from regimes.models.build import build
from regimes.models.residual import parameter_count
from regimes.models.reversible import reversible
from regimes.models.timed import timed
from regimes.processes import SINGLE
from regimes.training.assemble import assemble, check
from regimes.training.config import TrainConfig
from regimes.training.ensemble import Ensemble
from regimes.training.side_by_side import refuse_unfit

NETS = {"free": {}, "simplex": {"simplex": True}}


def made(shape=(1, 8, 8), **options):
    return build("odenet", shape, 10, filters=4, blocks=3, **options)


def steps(net):
    return torch.stack([block.residual.step.detach() for block in net.segment(0).blocks])


def test_a_layer_is_an_euler_step_of_its_learned_length():
    net = made(activation="relu")
    block, z = net.segment(0).block(1), torch.randn(2, 4, 3, 3)
    assert block.residual.step.item() == pytest.approx(1 / 3)
    with torch.no_grad():
        block.residual.step.fill_(-0.7)
    assert_close(block(z), z - 0.7 * torch.relu(block.residual.residual.linear(z)))
    block(z).sum().backward()
    assert block.residual.step.grad is not None


def test_vectors_have_dense_layers():
    net = build("odenet", (2,), 2, filters=6, blocks=4, head="one_layer")
    assert net(torch.randn(5, 2)).shape == (5, 2)
    assert parameter_count(net) == (2 * 6 + 6) + 4 * (6 * 6 + 6 + 1) + (6 * 2 + 2)


def test_free_steps_may_become_negative_and_those_on_the_simplex_not():
    x, ends = torch.randn(6, 1, 8, 8), {}
    for name, options in NETS.items():
        torch.manual_seed(0)
        net = made(**options)
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (net(x).square().sum() + 30 * net.segment(0).block(0).residual.step).backward()
            optimizer.step()
        net(x)
        ends[name] = steps(net)
    assert ends["free"][0] < 0
    assert ends["simplex"].min() == 0
    assert_close(ends["simplex"].sum(), torch.tensor(1.0))


def test_loaded_steps_are_on_the_simplex():
    net = made(simplex=True)
    state = {name: each + 3.0 if name.endswith("step") else each for name, each in net.state_dict().items()}
    state["segments.0.blocks.0.residual.step"] += 0.1
    net.load_state_dict(state)
    assert_close(steps(net), torch.tensor([0.4, 0.3, 0.3]), atol=1e-5, rtol=0)  # digits of 3.3 in float32


def test_settings_reach_the_net_and_initial_steps_are_kept():
    settings = TrainConfig(dataset="digits", arch="odenet", arch_options={"filters": 4, "blocks": 4}, train_size=20)
    assert_close(steps(assemble(settings).training.model), torch.full((4,), 0.25))


def test_several_free_nets_are_trained_together():
    nets = [made() for _ in range(2)]
    x = torch.randn(2, 5, 1, 8, 8)
    together = Ensemble(nets)(x)
    for one, net, own in zip(together, nets, x, strict=True):
        assert_close(one, net(own), rtol=1e-4, atol=1e-4)


def test_what_goes_with_learned_steps_goes_and_the_rest_is_refused_in_a_line():
    x = torch.randn(4, 1, 8, 8)
    plain = made().eval()
    assert_close(timed(plain)(x), plain(x))
    assert reversible(plain).segment(0).exact is False
    for form in (timed, reversible):
        with pytest.raises(ValueError, match="SimplexSegment does more"):
            form(made(simplex=True))
    with pytest.raises(ValueError, match="time 1"):
        made(simplex=True, time=2.0)
    settings = {"dataset": "digits", "arch": "odenet", "arch_options": {"simplex": True}}
    for flag in ({"mean_field": True}, {"reversible": True}):
        with pytest.raises(UserError, match="odenet cannot be trained with --"):
            check(TrainConfig(**settings, **flag))
    with pytest.raises(UserError, match="cannot be joined into one ensemble"):
        refuse_unfit(TrainConfig(**settings, seeds=2), SINGLE)


def simplex_net():
    return build("odenet", (4,), 3, simplex=True, blocks=3, filters=5, head="one_layer")


@pytest.mark.parametrize("moved", [False, True])
def test_a_net_on_the_simplex_may_be_called_again_before_its_backward_pass(moved):
    net, x = simplex_net(), torch.randn(2, 4)
    if moved:
        with torch.no_grad():
            net.segment(0).block(0).residual.step.fill_(0.9)
    loss = net(x).sum()
    with torch.no_grad():
        net.eval()(x)
    (loss + net.train()(x + 1).sum()).backward()
    assert net.segment(0).block(0).residual.step.grad is not None


@pytest.mark.parametrize("values", [[0.2, 0.3, 0.5], [5.0, -1.0, 0.7], [1e8, 0.0, 1e8], [1e30, -1e30, 1e29]])
def test_steps_on_the_simplex_stay_bit_for_bit(values):
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        own = simplex_net().to(kind).segment(0)
        with torch.no_grad():
            for step, value in zip(own.steps(), values, strict=True):
                step.fill_(value)
        own.project()
        before, versions = [step.detach().clone() for step in own.steps()], [step._version for step in own.steps()]
        assert abs(float(torch.stack(before).double().sum()) - 1) <= torch.finfo(kind).eps
        own.project()
        assert versions == [step._version for step in own.steps()]


def test_steps_that_are_no_numbers_leave_it_to_the_loss_to_say_so():
    net = simplex_net()
    with torch.no_grad():
        net.segment(0).block(1).residual.step.fill_(torch.nan)
    assert net(torch.randn(2, 4)).isnan().any()
