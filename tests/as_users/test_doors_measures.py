"""What measures, their functionals, flows and certificates refuse, as a user calls them."""

import math

import pytest
import torch

from regimes.conventions import generator
from regimes.meanfield.functionals import FeatureRisk, general
from regimes.meanfield.measure_flow import measure_flow, measure_steps
from regimes.meanfield.measures import Measure, require_measure
from regimes.meanfield.velocities import conic, fisher_rao, wasserstein, wasserstein_fisher_rao

NAN = math.nan
TARGET = torch.linspace(-1, 1, 7, dtype=torch.float64)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def features(position):
    return torch.exp(-3 * (position[..., None] - torch.linspace(0, 1, 7, dtype=position.dtype)).square())


def square(output):
    return (output - TARGET).square().sum(1) / 2


RISK = FeatureRisk(features, square)
POSITIVE = Measure(randn(3, 5), randn(3, 5).abs())


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        (Measure(randn(2, 3), randn(2, 4)), "m is 3 and 4|4 in place of 3"),
        (Measure(randn(2, 3), randn(3, 3)), "in place of 2"),
        (Measure((randn(2, 3), randn(2, 4)), randn(2, 3)), "m is 3 and 4"),
        (Measure((randn(2, 3), randn(1, 3)), randn(2, 3)), "runs is 2 and 1"),
        (Measure(randn(2, 3), torch.full((2, 3), NAN).double()), "finite mass"),
        (Measure(torch.full((2, 3), NAN), randn(2, 3)), "finite position"),
        (Measure([1.0, 2.0], randn(2, 3)), "a tensor"),
        (Measure((), randn(2, 3)), "got nothing"),
        (Measure({"a": randn(2, 3), "b": "word"}, randn(2, 3)), "got str"),
        (Measure(randn(2, 3).float(), randn(2, 3)), "one precision"),
        (randn(2, 3), "a Measure"),
    ],
)
def test_what_is_no_measure_is_refused(measure, said):
    with pytest.raises(ValueError, match=said):
        require_measure("door", measure)


def test_masses_below_zero_are_refused_where_they_make_no_sense():
    with pytest.raises(ValueError, match="at least 0; 1 of 2"):
        require_measure("door", Measure(randn(1, 2), torch.tensor([[-1.0, 2.0]]).double()), signed=False)


def test_measures_of_other_structure_do_not_join():
    one = Measure((randn(3, 2), randn(3, 2, 4)), randn(3, 2))
    with pytest.raises(ValueError, match="one structure"):
        one.join(Measure(randn(3, 2), randn(3, 2)))
    with pytest.raises(ValueError, match="in place of 3"):
        one.join(one.select([0]))
    with pytest.raises(ValueError, match="of the same kind"):
        one.join(Measure((randn(3, 2), randn(3, 2, 5)), randn(3, 2)))


@pytest.mark.parametrize(
    ("features", "loss", "said"),
    [
        (lambda p: p, square, "a row for each particle"),
        (lambda p: features(p)[:, :2], square, "a row for each particle"),
        (lambda p: features(p).float(), square, "precision"),
        (lambda p: features(p.detach()), square, "differentiate in the positions"),
        (lambda p: features(p).numpy(force=True), square, "got ndarray"),
        (features, lambda f: square(f).sum(), "one number a run"),
        (features, lambda f: (f - TARGET).square(), "one number a run"),
        (features, lambda f: f.detach().sum().item(), "got float"),
        (features, lambda f: (f > 0).sum(1), "differentiate"),
        (features, lambda f: square(f.detach()), "differentiate"),
        (features, lambda f: (f / f.norm(dim=0)).square().sum(1), "each run for itself"),
        (features, lambda f: f.sum(1) - 100, "at least 0"),
    ],
)
def test_features_and_losses_that_cannot_be_used_are_refused(features, loss, said):
    with pytest.raises(ValueError, match=said):
        FeatureRisk(features, loss).value_and_forces(Measure(randn(2, 3), randn(2, 3)))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lambda measure: measure.position.square().mean(1), "function of the measure"),
        (lambda measure: measure.mass.square().sum(1), "function of the measure"),
        (lambda measure: measure.mass.sum(), "one number a run"),
        (lambda measure: measure.mass.detach().sum(1), "differentiate"),
    ],
)
def test_what_is_no_function_of_a_measure_is_refused(value, said):
    with pytest.raises(ValueError, match=said):
        general(value).value_and_forces(Measure(randn(2, 3), randn(2, 3)))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: next(measure_flow(RISK, POSITIVE, [1.0], "wasserstein")), "needs a velocity"),
        (lambda: next(measure_flow(RISK, POSITIVE, [1.0], wasserstein)), "needs a velocity"),
        (lambda: next(measure_flow(square, POSITIVE, [1.0])), "needs a functional"),
        (lambda: next(measure_flow(RISK, POSITIVE, [1.0], value_below=torch.ones(2))), "for each of the 3 runs"),
        (lambda: next(measure_flow(RISK, POSITIVE, [1.0], value_below=math.nan)), "one number"),
        (lambda: next(measure_steps(RISK, POSITIVE, step=0.0, iterations=1, record=[1])), "step"),
        (lambda: next(measure_steps(RISK, POSITIVE, step=0.1, iterations=1, record=[2])), "records between"),
        (lambda: next(measure_steps(RISK, POSITIVE, step=0.1, iterations=1, record=[1], temperature=1.0)), "generator"),
        (lambda: next(measure_steps(lambda _: None, POSITIVE, step=0.1, iterations=1, record=[1])), "a functional"),
        (lambda: wasserstein(-1.0), "transport"),
        (lambda: wasserstein_fisher_rao(0.0, 0.0), "transport"),
        (lambda: conic(growth=math.nan), "growth"),
    ],
)
def test_wrong_flows_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_noise_without_transport_is_refused():
    with pytest.raises(ValueError, match="moves positions"):
        next(
            measure_steps(
                RISK, POSITIVE, fisher_rao(), step=0.1, iterations=1, record=[1], temperature=1.0,
                generator=generator(0),
            )
        )  # fmt: skip
