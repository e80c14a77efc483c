"""What measures, their functionals, flows and certificates refuse, as a user calls them."""

import math

import pytest
import torch
from doors import Door, cases, crashes, loses, not_taken

from regimes import Measure, ParticleFlow
from regimes.activations import RELU
from regimes.conventions import generator
from regimes.meanfield.certificate import certify
from regimes.meanfield.functionals import FeatureRisk, general
from regimes.meanfield.lifts import Neuron, at_unit_weight, neurons, signed_square_relu
from regimes.meanfield.measure_flow import measure_flow, measure_steps
from regimes.meanfield.measures import mixture, require_measure, uniform
from regimes.meanfield.searches import boxes, candidates
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


def points():
    return torch.linspace(-1, 1, 9, dtype=torch.float64)[None]


def flowed(position, mass, times):
    flow = ParticleFlow(features, square, penalty=0.1)
    return next(iter(flow(Measure(position, mass), times)))[:3]


def stepped(position, mass, step, iterations, temperature):
    flow = ParticleFlow(features, square, penalty=0.1)
    record = [iterations] if isinstance(iterations, int) else [1]
    return next(
        flow.steps(
            Measure(position, mass), step=step, iterations=iterations, record=record, temperature=temperature,
            generator=generator(0),
        )
    )[1]  # fmt: skip


def certified(position, mass, candidates, mass_bound):
    flow = ParticleFlow(features, square, penalty=0.1)
    return flow.certify(Measure(position, mass), candidates, mass_bound=mass_bound)


def bounded(low, high, curvature, tolerance):
    search = boxes(low, high, curvature=curvature, tolerance=tolerance)
    risk = FeatureRisk(lambda position: features(position.sum(2)), square)
    return certify(risk, Measure(randn(2, 3, 2), randn(2, 3).abs()), search, mass_bound=1.0)


MEASURE = lambda: {"position": randn(3, 5), "mass": randn(3, 5).abs()}  # noqa: E731
SIZED = {"position": (0, 1), "mass": (0, 1)}
RUN_BY_RUN = ("half", "integer", "an axis less", "a list")  # right for numbers that are given run by run
DOORS = {
    "uniform": Door(uniform, lambda: {"position": randn(3, 5, 2), "total": torch.tensor([1.0, 2.0, 3.0])},
                    sized={"total": (0,)}, free={"position: an axis less", "position: an axis more",
                                                 *(f"total: {how}" for how in RUN_BY_RUN)}),
    "Measure.join": Door(
        lambda position, mass: Measure(randn(3, 4), randn(3, 4)).join(Measure(position, mass)), MEASURE,
        sized=SIZED, name="Measure.join",
    ),
    "mixture": Door(
        lambda position, mass, share: mixture(Measure(randn(3, 4), randn(3, 4)), Measure(position, mass), share),
        lambda: {**MEASURE(), "share": 0.5}, sized=SIZED, name="mixture",
    ),
    "ParticleFlow": Door(
        flowed, lambda: {**MEASURE(), "times": torch.tensor([1e-3, 2e-3])}, sized=SIZED,
        free={"times: half", "times: integer", "times: a list", "times: complex", "position: an axis more"},
        name=("ParticleFlow", "integrate", "FeatureRisk"),
    ),
    "ParticleFlow.steps": Door(
        stepped,
        lambda: {**MEASURE(), "step": 0.1, "iterations": 2, "temperature": 0.5}, sized=SIZED,
        free={"position: an axis more", "iterations: 0"}, name=("ParticleFlow", "measure_steps", "FeatureRisk"),
    ),
    "ParticleFlow.certify": Door(
        certified,
        lambda: {**MEASURE(), "candidates": points(), "mass_bound": torch.tensor([1.0, 2.0, 3.0])},
        sized={**SIZED, "mass_bound": (0,)},
        free={"position: an axis more", "candidates: an axis less",
              *(f"mass_bound: {how}" for how in RUN_BY_RUN)},
        name=("ParticleFlow.certify", "candidates", "certify", "FeatureRisk", "multistart"),
    ),
    "ParticleFlow of numbers": Door(
        lambda penalty, decay: ParticleFlow(features, square, penalty=penalty, decay=decay),
        lambda: {"penalty": 0.1, "decay": 0.1}, name="FeatureRisk",
    ),
    "boxes": Door(
        bounded,
        lambda: {"low": -torch.ones(2), "high": torch.ones(2), "curvature": 100.0, "tolerance": 1e-3},
        sized={"low": (0,), "high": (0,)},
        name="boxes",
    ),
    "neurons": Door(
        lambda x, weight, direction: neurons(x, RELU)(Neuron(weight, direction)),
        lambda: {"x": randn(6, 3), "weight": randn(2, 5), "direction": randn(2, 5, 3)},
        sized={"x": (1,), "weight": (0, 1), "direction": (0, 1, 2)}, name="neurons",
    ),
    "signed_square_relu": Door(
        lambda x: signed_square_relu(x)(randn(2, 5, 3)), lambda: {"x": randn(6, 3)}, sized={"x": (1,)},
        name="signed_square_relu",
    ),
}  # fmt: skip


def test_the_right_input_is_taken():
    assert not_taken(DOORS) == []


@pytest.mark.parametrize(("door", "argument", "how"), cases(DOORS))
def test_wrong_input_is_refused(door, argument, how):
    assert loses(DOORS[door], argument, how) is None


@pytest.mark.parametrize("door", DOORS)
def test_values_of_other_kinds_are_refused_in_words(door):
    assert crashes(DOORS[door], allowed={"candidates: a module", "curvature: a module"}) == []  # a module can be called


FLOW = ParticleFlow(features, square)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ParticleFlow(features, None), "needs loss"),
        (lambda: ParticleFlow("features", square), "as a function"),
        (lambda: ParticleFlow(features, square, velocity="conic"), "needs a velocity"),
        (lambda: ParticleFlow(features, square, loss_at_least="zero"), "loss_at_least"),
        (lambda: ParticleFlow.of(square), "needs a functional"),
        (lambda: FLOW("start", [1.0]), "needs a Measure, or positions"),
        (lambda: FLOW(torch.ones(1, 3).long(), [1.0]), "ParticleFlow needs position in float32"),
        (lambda: next(FLOW.steps(randn(1, 3), step=0.1, iterations=1, record=3)), "record as iterations"),
        (lambda: FLOW.steps(randn(1, 3), step=0.1, iterations=1, record=[1], batches=3), "as a function"),
        (lambda: FLOW.certify(randn(1, 3), points()), "a Measure"),
        (lambda: FLOW.certify(POSITIVE, None), "needs search"),
        (lambda: FLOW.certify(POSITIVE, points(), fixed_total=False), "no penalty on mass"),
        (lambda: FLOW.certify(POSITIVE, points(), fixed_total=True, signed=True), "fixed_total alone"),
        (lambda: FLOW.certify(POSITIVE, lambda field: 3), "a Found"),
        (lambda: FLOW.certify(POSITIVE, randn(1, 4, 2)), "of the same kind"),
        (lambda: certify(RISK, Measure(randn(1, 2), -randn(1, 2).abs()), candidates(points())), "at least 0; 2 of 2"),
        (lambda: certify(general(lambda measure: -measure.total()), POSITIVE, candidates(points()), mass_bound=1.0,
                         signed=True), "takes sign="),
        (lambda: boxes(torch.zeros(1), torch.ones(1)), "lipschitz or curvature"),
        (lambda: next(FLOW(randn(3), [1.0])), "2 are needed|at least 2"),
        (lambda: next(ParticleFlow(lambda p: torch.cat([p], 5), square)(randn(2, 3), [1.0])), "first; there it raised"),
        (lambda: next(ParticleFlow(features, lambda f: f @ f)(POSITIVE, [1.0])), "a loss that can be asked"),
        (lambda: boxes(torch.ones(1), torch.zeros(1), curvature=1.0), "low < high"),
        (lambda: at_unit_weight(uniform(randn(2, 3))), "Neuron"),
        (lambda: neurons(randn(6, 3), RELU)((randn(2, 5), randn(2, 5, 3))), "Neuron"),
    ],
)  # fmt: skip
def test_wrong_problems_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_inference_mode_is_refused():
    with torch.inference_mode(), pytest.raises(ValueError, match="inference_mode"):
        next(ParticleFlow(features, square)(randn(2, 3), [1.0]))
