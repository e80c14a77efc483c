"""deleted_blocks: its judge on made-up rows, its nets against modules, and what a deletion is."""

import pandas as pd
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes.experiments.mean_field import deleted_blocks
from regimes.experiments.mean_field.deleted_blocks.config import MEAN_FIELD, PLAIN, ROOT, Config
from regimes.experiments.mean_field.deleted_blocks.nets import cross_entropy, drawn, errors, logits, train
from regimes.experiments.mean_field.deleted_blocks.runs import measure, numbers_deleted

SMALL = Config(width=5, hidden=4, train=40, test=20, epochs=2, batch=15, draws=3)


def made(one=-1.0, two=-2.0, root=-1.0, share=0.005, change=0.8, risk=1.3, first=0.3, jump=1.0, plain=80.0):
    rows = []
    for net in (MEAN_FIELD, ROOT, PLAIN):
        for layers in (8, 16, 32):
            for seed in range(4):
                noise = 1 + 0.01 * seed
                for k in [0, *numbers_deleted(layers)]:
                    error = 3.0 + noise * (0 if k == 0 else plain if net == PLAIN else first + jump * (k - 1) ** 1.0)
                    size = noise * layers**one * k**change
                    order = two if net == MEAN_FIELD else root
                    depart = noise * (share if net == MEAN_FIELD else 1.0) * (k - 1) * layers**order if k > 1 else 0.0
                    rows.append({
                        "net": net, "layers": layers, "seed": seed, "deleted": k, "test_error": min(error, 100.0),
                        "train_risk": 0.01 + noise * 1e-3 * k**risk * (k > 0), "train_error": 0.0, "change": size,
                        "departure": depart,
                    })  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.slow
def test_rows_that_obey_support_the_statement_and_each_broken_prediction_refutes_it():
    assert deleted_blocks.judge(made()).verdict == "supported"
    broken = [
        {"one": -0.5}, {"two": -1.0}, {"root": -2.0}, {"share": 10.0}, {"change": 0.3}, {"change": 1.4}, {"risk": 0.5},
        {"risk": 2.5}, {"first": 4.0}, {"jump": 30.0}, {"plain": 10.0},
    ]  # fmt: skip
    for change in broken:
        assert deleted_blocks.judge(made(**change)).verdict == "refuted", change
    assert len(deleted_blocks.table(made())) == 9
    assert deleted_blocks.draw(made()).axes


def test_where_plain_nets_have_not_trained_the_others_can_refute_but_not_support():
    for plain, verdict in ((80.0, "inconclusive"), (10.0, "refuted")):
        rows = made(plain=plain)
        rows.loc[(rows.net == PLAIN) & (rows.layers == 32), "test_error"] = 90.0
        found = deleted_blocks.judge(rows).findings[-1]
        assert (found.quantity, found.verdict) == (deleted_blocks.DESTROYED, verdict)
        assert found.value == pytest.approx(plain, rel=0.02)
        words = " ".join(text.get_text().replace("\n", " ") for text in deleted_blocks.draw(rows).texts)
        assert "(so not plain, L = 32)" in words


def test_a_rise_between_distant_numbers_of_deletions_may_be_that_of_one():
    rows = made()
    rows.loc[(rows.net == MEAN_FIELD) & (rows.layers == 32) & (rows.deleted >= 32), "test_error"] = 95.0
    (found,) = [one for one in deleted_blocks.judge(rows).findings if one.quantity == deleted_blocks.JUMP]
    before = rows[(rows.net == MEAN_FIELD) & (rows.layers == 32) & (rows.deleted == 23)].test_error.mean()
    assert found.value == pytest.approx(95.0 - before)
    assert found.verdict == "inconclusive"
    assert found.measured.low < (95.0 - before) / 9 < 10 < found.measured.high


def test_rows_of_some_nets_are_judged_as_far_as_they_go():
    rows = made()
    for some in (rows[rows.net == PLAIN], rows[rows.layers == 8], rows[rows.deleted == 0]):
        assert deleted_blocks.judge(some).findings
        assert len(deleted_blocks.table(some))


@pytest.mark.parametrize("kind", [MEAN_FIELD, ROOT, PLAIN])
def test_logits_are_those_of_the_net_that_lacks_the_deleted_blocks(kind):
    net, x = drawn(SMALL, kind, 3, 6, 4, [1, 2]), torch.randn(2, 7, 6)
    found = logits(net, x, torch.tensor([[1.0, 1, 1], [1, 0, 1]]).expand(2, 2, 3))
    for row, kept in enumerate([(0, 1, 2), (0, 2)]):
        state = x[1] @ net.encoder[1]
        for layer in kept:
            hidden = torch.tanh(state @ net.input[1, layer] + net.bias[1, layer])
            scale = {MEAN_FIELD: 1 / 3, ROOT: 3**-0.5, PLAIN: None}[kind]
            state = hidden if scale is None else state + scale * hidden @ net.output[1, layer]
        assert_close(found[1, row], state @ net.head[1] + net.offset[1])
    assert_close(logits(net, x)[:, 0], found[:, 0])


def test_risk_and_error_are_those_of_torch():
    outputs, labels = torch.randn(2, 3, 7, 4), torch.randint(4, (2, 7))
    assert_close(cross_entropy(outputs, labels)[1, 2], nn.functional.cross_entropy(outputs[1, 2], labels[1]))
    assert_close(errors(outputs, labels)[0, 1], 100 * (outputs[0, 1].argmax(1) != labels[0]).float().mean())


def test_a_net_is_trained_as_if_it_were_alone():
    x, labels = torch.randn(2, 40, 6), torch.randint(4, (2, 40))
    both = train(SMALL, drawn(SMALL, ROOT, 3, 6, 4, [1, 2]), x, labels, [1, 2])
    alone = train(SMALL, drawn(SMALL, ROOT, 3, 6, 4, [2]), x[1:], labels[1:], [2])
    for one, other in zip(both.weights, alone.weights, strict=True):
        assert_close(one[1:], other)
    before = cross_entropy(logits(drawn(SMALL, ROOT, 3, 6, 4, [1, 2]), x), labels)
    assert (cross_entropy(logits(both, x), labels) < before).all()


@pytest.mark.slow
def test_single_deletions_are_additive_by_definition_and_the_whole_net_has_not_changed():
    found = measure(SMALL, [{"net": MEAN_FIELD, "layers": 4, "seed": seed} for seed in (0, 1)])
    for rows in found:
        by = {row["deleted"]: row for row in rows}
        assert (by[0]["change"], by[0]["departure"]) == (0.0, 0.0)
        assert by[1]["departure"] == pytest.approx(0.0, abs=1e-6)
        assert by[2]["departure"] < 0.3 * by[2]["change"]
        assert set(by) == {0, 1, 2, 3, 4}
