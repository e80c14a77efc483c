"""The error rate of diagnose: its judge on made-up rows, and its nets."""

import pandas
import pytest
import torch

from regimes.experiments.lazy.diagnose_error_rate import Config, draw, judge, measure, table
from regimes.experiments.lazy.diagnose_error_rate.nets import KINDS, trained


def rows(wrong=0, unknown=0, count=260):
    kinds = list(KINDS)
    made = []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        truth = 1.0 if KINDS[kind].lazy else -1.0
        said = -truth if number < wrong else 0.0 if number < wrong + unknown else truth
        numbers = {"truth": truth, "said": said, "right": float(said == truth), "wrong": float(said == -truth)}
        gap = {"gap": 0.01 if said > 0 else 0.5, "gap_low": 0.0, "gap_high": 1.0, "motion": 0.1, "ratio": 0.1}
        made.append({"kind": kind, "seed": number // len(kinds), **numbers, **gap})
    return pandas.DataFrame(made)


def test_few_mistakes_support_the_rate_and_many_refute_it():
    """Of 160 seeds."""
    every = 160 * len(KINDS)
    assert judge(rows(count=every)).verdict == "supported"
    assert judge(rows(wrong=16, unknown=16, count=every)).verdict == "supported"
    assert judge(rows(unknown=320, count=every)).verdict == "refuted"  # cannot tell is not right
    assert judge(rows(wrong=320, count=every)).verdict == "refuted"
    assert judge(rows(wrong=80, count=every)).verdict == "inconclusive"


def test_kinds_of_one_seed_share_their_draws_and_are_one_repetition():
    found = judge(rows()).findings[0]
    assert (found.value, found.repetitions, found.verdict) == (1.0, 20, "inconclusive")


def test_wrong_verdicts_are_shown_and_only_right_ones_are_judged():
    judged = judge(rows(wrong=26))
    assert [finding.quantity for finding in judged.findings] == ["share of right verdicts"]
    assert judged.merits["share of wrong verdicts"] == pytest.approx(0.1)


def test_two_nets_without_a_mistake_prove_nothing():
    assert judge(rows(count=2)).verdict == "inconclusive"


def test_the_table_counts_by_kind():
    found = table(rows(wrong=1)).set_index("kind")
    assert list(found.index) == list(KINDS)
    assert found.loc["alpha 100", "wrong"] == 1
    assert found.loc["alpha 30", "right"] == found.loc["alpha 30", "nets"] == 20
    assert (found.regime == "lazy").sum() == 8


@pytest.mark.slow
def test_every_net_is_drawn():
    axis = draw(rows(wrong=3)).axes[0]
    assert sum(len(line.get_xdata()) for line in axis.lines if line.get_marker() == "o") == 260


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_ensemble_is_its_nets_trained_one_by_one(kind):
    sizes = {"count": 12, "inputs": 3, "width": 4, "steps": 5, "ratio": 0.01}
    both, one = trained(kind, [3, 4], **sizes), trained(kind, [4], **sizes)
    torch.testing.assert_close(both.ends[1].state_dict(), one.ends[0].state_dict())
    torch.testing.assert_close(both.ratio[1:], one.ratio)
    assert both.ratio[0] < 1
    before, after = (dict(net.named_parameters()) for net in (one.starts[0], one.ends[0]))
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_a_smoke_run_tells_both_regimes():
    for kind, said in (("alpha 100", 1.0), ("alpha 0.3", -1.0)):
        config = Config(kind=(kind,), seeds=1, first_seed=1000)
        (row,) = measure(config, [{"kind": kind, "seed": 0}])
        assert row["said"] == row["truth"] == said
