"""What LeastAction refuses in a loop of one's own, as a user calls it."""

import pytest
import torch
from torch import nn

import regimes
from regimes.models.residual import Trace
from regimes.training.objectives import LeastAction, Plain

OBJECTIVES = {"least action": LeastAction, "plain": Plain}


def outputs(*shape, dtype=torch.float32):
    step = torch.ones(shape[0], 2)
    return Trace(torch.randn(*shape, dtype=dtype, requires_grad=True), ((),), ((step,),))


@pytest.mark.parametrize("accumulate", [0, -1, 1.5, True, "2", None, float("nan")])
def test_impossible_numbers_of_batches_are_refused(accumulate):
    with pytest.raises(ValueError, match=r"LeastAction needs accumulate \(batches of a step\) as a whole number"):
        LeastAction(accumulate=accumulate)


@pytest.mark.parametrize("join", ["alone", 3, True])
def test_a_join_that_is_no_function_is_refused(join):
    with pytest.raises(ValueError, match="LeastAction needs join as a function"):
        LeastAction(join=join)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    ("output", "targets", "message"),
    [
        ((6, 3), torch.tensor([0, 1, 2, 3, 0, 9]), "class labels 0..2, as the output has 3 classes; 2 of 6 are not"),
        ((6, 3), torch.tensor([0, 1, 2, -1, 0, 1]), "class labels 0..2.* 1 of 6 are not, -1 the first"),
        ((6, 3), torch.full((6,), 3, dtype=torch.uint8), "class labels 0..2"),
        ((6, 3, 2), torch.full((6, 2), 3), "class labels 0..2"),
        ((6, 1), torch.ones(6).long(), "class labels 0..0"),
        ((6, 3), torch.zeros(6), r"labels of shape \(6,\) \(integers\).*got numbers of shape \(6,\), torch.float32"),
        ((6, 3), torch.zeros(6, 1).long(), r"got labels of shape \(6, 1\)"),
        ((6, 3), torch.zeros(5).long(), r"got labels of shape \(5,\)"),
        ((6, 3), torch.zeros(6, dtype=torch.complex64), "got numbers of shape .*complex64"),
        ((6, 3), torch.zeros(6, 3, dtype=torch.complex64), "got numbers of shape .*complex64"),
        ((6, 3), torch.zeros(6, 3, dtype=torch.float64), r"precision of the output, torch.float32; got float64"),
        ((6, 3), [0, 1, 2, 0, 1, 2], "targets as a tensor; got list"),
        ((6, 3), None, "targets as a tensor; got NoneType"),
        ((6, 3), torch.zeros(6, device="meta").long(), "targets on the device of the output, cpu; got meta"),
    ],
)  # fmt: skip
def test_targets_that_do_not_fit_are_told_in_our_words(objective, output, targets, message):
    made = OBJECTIVES[objective]()
    with pytest.raises(ValueError, match=message) as caught:
        made(outputs(*output), targets)
    assert "\n" not in str(caught.value)
    made(outputs(6, 3), torch.arange(6) % 3)  # and the step can be taken with others


def test_what_a_trace_leaves_out_is_said_at_the_line_of_the_call():
    class Twice(nn.Module):
        def forward(self, z):
            return torch.cat([z, z], 1)

    class Once(nn.Module):
        def forward(self, z):
            return z + 1

    model = nn.Sequential(Twice(), Once())
    with pytest.warns(UserWarning, match="changes in '0', where no shortcut is traced") as caught:
        regimes.trace_residuals(model, "?")(torch.ones(2, 3))
    assert [warning.filename for warning in caught] == [__file__]
