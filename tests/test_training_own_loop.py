"""LeastAction in a loop of one's own: what is forgotten, several processes, accumulation, losses of NaN."""

import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from launch import launch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import regimes
from regimes.models.build import build
from regimes.models.residual import Trace
from regimes.training.objectives import LEVELS, LeastAction, Plain, alone
from regimes.transport.forms import FORMS


class Block(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, width))

    def forward(self, z):
        return z + self.inner(z)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks, self.head = nn.ModuleList([Block(), Block()]), nn.Linear(4, 3)

    def forward(self, z):
        for block in self.blocks:
            z = checkpoint(block, z, use_reentrant=False)
        return self.head(z)


class Attentive(nn.Module):
    """Blocks of attention over two tokens of two features."""

    def __init__(self):
        super().__init__()
        self.mix = nn.MultiheadAttention(2, 1, batch_first=True)

    def forward(self, z):
        tokens = z.unflatten(1, (2, 2))
        return z + self.mix(tokens, tokens, tokens)[0].flatten(1)


MODELS = {
    "dense": lambda: regimes.trace_residuals(nn.Sequential(Block(), Block(), nn.Linear(4, 3)), Block),
    "attention": lambda: regimes.trace_residuals(nn.Sequential(Attentive(), nn.Linear(4, 3)), Attentive),
    "own": lambda: build("dense", (4,), 3, blocks=2),
}


@pytest.fixture(params=["dense", *(pytest.param(name, marks=pytest.mark.slow) for name in ("attention", "own"))])
def net(request):
    return MODELS[request.param]().double()


@pytest.fixture
def samples():
    return torch.randn(12, 4, dtype=torch.float64), torch.arange(12) % 3


def after(objective, risk=2.0):
    objective.after_step(lambda: torch.tensor(risk), lambda: torch.tensor(risk))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_forgotten_after_step_is_told_at_the_next_call(net, samples, level, accumulate):
    objective = LeastAction(level=level, accumulate=accumulate)
    for _ in range(2):
        for number in range(accumulate):
            assert not objective.full
            objective(net(samples[0], trace=True), samples[1])
            assert objective.full == (number == accumulate - 1)
        before = objective.multiplier.clone()
        with pytest.raises(ValueError, match=r"called again before after_step\(\).* or skip\(\).* by loss\("):
            objective(net(samples[0], trace=True), samples[1])
        assert objective.multiplier == before
        after(objective)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_an_after_step_too_early_or_twice_is_told(net, samples, accumulate):
    objective = LeastAction(accumulate=accumulate, level="batch_after")
    with pytest.raises(ValueError, match=r"since the last one 0 came\. Step where `full` is true"):
        after(objective)
    for seen in range(1, accumulate):
        objective(net(samples[0], trace=True), samples[1])
        with pytest.raises(ValueError, match=rf"\(accumulate={accumulate}\); since the last one {seen} came"):
            after(objective)
    objective(net(samples[0], trace=True), samples[1])
    after(objective)
    assert objective.multiplier == 3
    with pytest.raises(ValueError, match=r"once .* come"):
        after(objective)
    assert objective.multiplier == 3


def test_a_call_without_gradients_is_no_training_step(net, samples):
    objective = LeastAction()
    with torch.no_grad():
        trace = net(samples[0], trace=True)
        with pytest.raises(ValueError, match=r"without gradients, .* Measure by its `loss\(output, targets\)`"):
            objective(trace, samples[1])
        assert objective.loss(trace, samples[1]).risk > 0
    assert objective.multiplier == 1
    assert objective.count == 0


def gradients(net, values):
    net.zero_grad()
    for value in values:
        value.backward()
    return [weight.grad for weight in net.parameters() if weight.grad is not None]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("accumulate", [2, 3, 6])
def test_accumulated_batches_are_their_joined_batch(net, samples, form, accumulate):
    """Gradients at a fixed λ, and how λ moves: by the risk of all samples of the step, once."""
    net.eval()  # a batch norm is by the batch
    x, y = samples
    whole = LeastAction(form=form, multiplier=2.5, growth=0.0)(net(x, trace=True), y)
    truth = gradients(net, [whole.value])
    objective = LeastAction(form=form, multiplier=2.5, growth=0.0, accumulate=accumulate)
    parts = list(zip(x.chunk(accumulate), y.chunk(accumulate), strict=True))
    losses = [objective(net(part, trace=True), labels) for part, labels in parts]
    assert_close(gradients(net, [loss.value for loss in losses]), truth)
    assert_close(sum(loss.value for loss in losses), whole.value)
    assert_close(sum(loss.penalty for loss in losses), whole.penalty)
    for number in ("risk", "transport"):  # of the batch, not divided
        mean = torch.stack([getattr(loss, number) for loss in losses]).mean()
        assert_close(mean, getattr(whole, number))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("every", [1, 2])
def test_the_multiplier_moves_by_steps_and_not_by_batches(net, samples, level, every):
    net.eval()
    x, y = samples
    objective = LeastAction(level=level, growth=0.5, every=every, accumulate=3)
    single = LeastAction(level=level, growth=0.5, every=every)
    for _ in range(4):
        single(net(x, trace=True), y)
        within = []
        for part, labels in zip(x.chunk(3), y.chunk(3), strict=True):
            objective(net(part, trace=True), labels)
            within.append(objective.multiplier.item())
        assert len(set(within)) == 1  # one λ for all batches of a step
        after(single), after(objective)
        assert_close(objective.multiplier, single.multiplier)
        assert_close(objective.running, single.running)
    assert single.multiplier > 1


def test_batches_of_a_step_in_several_sizes_are_refused(net, samples):
    x, y = samples
    objective = LeastAction(accumulate=2)
    objective(net(x[:8], trace=True), y[:8])
    with pytest.raises(ValueError, match=r"in one size.*; got 8 and then 4. Take drop_last=True"):
        objective(net(x[8:], trace=True), y[8:])
    ones = LeastAction()
    for rows in (8, 4):  # from step to step they may change
        ones(net(x[:rows], trace=True), y[:rows])
        ones.after_step()


def trained(objective, risks):
    """λ after each step at these risks."""
    seen = []
    for value in risks:
        objective.risk = lambda output, targets, value=value: output.sum() * 0 + value
        step = torch.ones(4, 2)
        objective(Trace(torch.zeros(4, 3, requires_grad=True), ((),), ((step,),)), torch.zeros(4).long())
        if objective.full:
            after(objective, value)
        seen.append(objective.multiplier.item())
    return seen


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_a_risk_that_is_not_finite_moves_nothing_and_is_counted(level, bad, place):
    clean, objective = LeastAction(level=level), LeastAction(level=level)
    risks = [1.0, 2.0, 3.0]
    truth = trained(clean, risks)
    found = trained(objective, [*risks[:place], bad, *risks[place:]])
    assert found[place] == (1.0 if place == 0 else truth[0])
    assert found[:place] + found[place + 1 :] == truth
    assert (objective.left_out, clean.left_out) == (1, 0)
    assert_close(objective.running, clean.running)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_with_one_bad_batch_out_of_several_moves_nothing(bad):
    assert trained(LeastAction(accumulate=2), [1.0, bad, 2.0, 4.0]) == [1.0, 1.0, 1.0, 4.0]


def test_a_member_that_diverges_leaves_the_others_their_multipliers():
    objective = LeastAction()
    for risks in ([1.0, float("nan")], [2.0, 4.0]):
        objective.step(torch.tensor(risks), torch.ones(2))
        objective.after_step()
    assert objective.multiplier.tolist() == [4.0, 5.0]
    assert objective.left_out.tolist() == [0, 1]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_skipped_leaves_no_trace(net, samples, level, accumulate):
    x, y = samples
    objective = LeastAction(level=level, every=2, accumulate=accumulate)
    plain = deepcopy(objective)
    for number in range(3):
        objective(net(x, trace=True), y)
        objective.skip()
        assert objective.state_dict() == plain.state_dict()
        for each in (objective, plain):
            for _ in range(accumulate):
                each(net(x, trace=True), y)
            after(each, number)
        objective.skip()  # there is no step to leave out: it was taken
    assert_close(objective.multiplier, plain.multiplier, rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("multiplier", [1e-6, 1.0, 1e5, 1e30])
def test_a_risk_in_half_precision_keeps_value_and_transport(form, multiplier):
    """In float16 numbers end at 65,504 and at 6e-8: λ and C/λ were lost there."""
    output = torch.randn(4, 3).half().requires_grad_()
    step = torch.randn(4, 5).half().requires_grad_()
    objective = LeastAction(multiplier=multiplier, growth=0.0, form=form)
    loss = objective(Trace(output, ((),), ((step,),)), torch.arange(4) % 3)
    assert loss.value.dtype == torch.float32
    truth = FORMS[form](loss.risk.double(), loss.transport.double(), torch.tensor(multiplier).double())
    assert_close(loss.value.detach(), truth.float())
    loss.value.backward()
    assert output.grad is not None
    if form == "multiplied":
        assert step.grad.abs().sum() > 0


X = torch.randn(6, 5)
OBJECTIVES = {"least action": LeastAction, "plain": Plain}


def outputs(*shape, dtype=torch.float32):
    step = torch.ones(shape[0], 2)
    return Trace(torch.randn(*shape, dtype=dtype, requires_grad=True), ((),), ((step,),))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool])
def test_integers_of_any_kind_are_labels(objective, dtype):
    given, labels = outputs(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    assert_close(OBJECTIVES[objective]()(given, labels.to(dtype)).risk, cross_entropy(given.output, labels).detach())


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("risk", [cross_entropy, mse_loss, binary_cross_entropy_with_logits])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_numbers_of_the_outputs_shape_may_be_integers(objective, risk, dtype):
    given, targets = outputs(6, 3), torch.eye(3)[torch.arange(6) % 3]
    loss = OBJECTIVES[objective](risk)(given, targets.to(dtype))
    assert_close(loss.risk, risk(given.output, targets).detach())
    loss.value.backward()


def test_a_label_that_torch_leaves_out_is_left_out():
    given, labels = outputs(6, 3), torch.tensor([0, 1, 2, -100, 0, -100])
    assert_close(LeastAction()(given, labels).risk, cross_entropy(given.output, labels).detach())


def test_a_risk_that_returns_no_number_is_told():
    for risk, got in ((lambda o, t: o, r"shape \(6, 3\)"), (lambda o, t: 0.5, "float"), (lambda o, t: None, "None")):
        with pytest.raises(ValueError, match=f"a risk that is one number, a mean over samples, as a tensor; got {got}"):
            LeastAction(risk)(outputs(6, 3), torch.arange(6) % 3)
    with pytest.raises(ValueError, match=r"a risk that takes outputs \(6, 3\) and targets"):
        LeastAction(lambda only: only.mean())(outputs(6, 3), torch.arange(6) % 3)


def own_loop(rank, joined):
    """λ and weights of one of two processes, each on its half of the samples, and λ after a batch of NaN in one."""
    torch.manual_seed(0)
    x, y = torch.randn(12, 4, dtype=torch.float64), torch.arange(12) % 3
    found = {}
    for level in LEVELS:
        for accumulate in (1, 2):
            torch.manual_seed(1)
            net = Checkpointed().double()
            traced = together = regimes.trace_residuals(net, Block)
            if rank is not None and accumulate == 1:  # either may wrap the other
                together = nn.parallel.DistributedDataParallel(traced)
            elif rank is not None:
                traced = together = regimes.trace_residuals(nn.parallel.DistributedDataParallel(net), Block)
            objective = LeastAction(
                level=level, growth=0.3, multiplier=2.0, accumulate=accumulate, join=None if joined else alone
            )
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
            for _ in range(3):
                for b in range(accumulate):
                    part = slice(6 * b, 6 * b + 6) if accumulate == 2 else slice(None)
                    bx, by = x[part], y[part]
                    if rank is not None:
                        bx, by = bx.chunk(2)[rank], by.chunk(2)[rank]
                    objective(together(bx, trace=True), by).value.backward()
                optimizer.step()
                optimizer.zero_grad()
                whole = (x, y) if rank is None else (x.chunk(2)[rank], y.chunk(2)[rank])
                own = cross_entropy(traced(whole[0], trace=False), whole[1])
                objective.after_step(lambda own=own: own, lambda own=own: own)
            found[f"{level} {accumulate}"] = [objective.multiplier, *(w.detach() for w in net.parameters())]
    bad = LeastAction()
    for value in (1.0, float("nan") if rank == 1 else 2.0, 3.0):
        bad.risk = lambda output, targets, value=value: output.sum() * 0 + value
        bad(Trace(torch.zeros(4, 3, requires_grad=True), ((),), ((torch.ones(4, 2),),)), torch.zeros(4).long())
        bad.after_step()
    found["nan in one"] = [bad.multiplier]
    uneven = LeastAction()
    size = 4 if rank == 0 else 2
    uneven.risk = lambda output, targets: output.sum() * 0 + 1.0 + (rank or 0)
    uneven(Trace(torch.zeros(size, 3, requires_grad=True), ((),), ((torch.ones(size, 2),),)), torch.zeros(size).long())
    found["uneven"] = [uneven.multiplier]
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    ended = launch(2, str(Path(__file__)), str(folder))
    assert [process.code for process in ended] == [0, 0], ended
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_have_one_multiplier_that_of_the_joined_batch(two, level, accumulate):
    name = f"{level} {accumulate}"
    assert two[0]["joined"][name][0] == two[1]["joined"][name][0]
    assert_close(two[0]["joined"][name], own_loop(None, True)[name], rtol=1e-9, atol=1e-9)
    assert two[0]["apart"][name][0] != two[1]["apart"][name][0]


@pytest.mark.slow
def test_a_risk_that_is_nan_in_one_process_moves_no_multiplier(two):
    assert [found["joined"]["nan in one"][0].item() for found in two] == [5.0, 5.0]


@pytest.mark.slow
def test_processes_count_by_their_samples(two):
    assert [found["joined"]["uneven"][0].item() for found in two] == [1 + 8 / 6] * 2
    assert [found["apart"]["uneven"][0].item() for found in two] == [1 + 8 / 6] * 2  # its own objective is joined


if __name__ == "__main__":
    import os

    from torch import distributed

    distributed.init_process_group("gloo")
    number = int(os.environ["RANK"])
    made = {"joined": own_loop(number, True), "apart": own_loop(number, False)}
    torch.save(made, Path(sys.argv[1]) / f"{number}.pt")
    distributed.destroy_process_group()
