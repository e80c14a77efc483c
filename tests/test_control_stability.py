import math
from inspect import unwrap  # annotations, checked in tests alone, stop wrong types before the doors do

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from regimes.control.stability import contractive_step, contractivity_radius, real_interval, stability_function
from regimes.control.stepper import step
from regimes.control.tableau import (
    BOGACKI_SHAMPINE,
    DORMAND_PRINCE,
    EULER,
    GAUSS2,
    GAUSS3,
    HEUN,
    IMPLICIT_EULER,
    IMPLICIT_MIDPOINT,
    KUTTA3,
    KUTTA4,
    TABLEAUS,
    Tableau,
)

EACH = pytest.mark.parametrize("tableau", TABLEAUS, ids=lambda one: one.name)


@pytest.mark.parametrize(
    ("tableau", "radius"),
    [
        (EULER, 1.0),
        (HEUN, 1.0),
        (KUTTA3, 0.5),
        (KUTTA4, 1.0),
        (DORMAND_PRINCE, 0.0),
        (IMPLICIT_EULER, math.inf),
        (IMPLICIT_MIDPOINT, math.inf),
        (GAUSS2, math.inf),
        (GAUSS3, math.inf),
    ],
    ids=lambda one: getattr(one, "name", one),
)
def test_radii_are_the_known_ones(tableau, radius):
    assert contractivity_radius(tableau) == pytest.approx(radius)


def test_the_radius_is_the_largest_for_which_the_form_is_not_negative():
    """Bogacki and Shampine's method without its last stage, by the definition."""
    a = torch.tensor(BOGACKI_SHAMPINE.a, dtype=torch.float64)[:3, :3]
    b = torch.tensor(BOGACKI_SHAMPINE.b, dtype=torch.float64)[:3]
    m = b[:, None] * a + (b[:, None] * a).T - b[:, None] * b

    def least(r):
        return float(torch.linalg.eigvalsh(m + torch.diag(b) / r)[0])

    radius = contractivity_radius(BOGACKI_SHAMPINE)
    assert abs(least(radius)) < 1e-12
    assert least(0.999 * radius) > 0 > least(1.001 * radius)


def test_stages_without_effect_change_no_radius_and_zero_weights_of_others_give_none():
    idle = Tableau("Euler with an idle stage", ((0.0, 0.0), (0.3, 0.0)), (1.0, 0.0), 1)
    assert contractivity_radius(idle) == pytest.approx(1.0)
    midpoint = Tableau("explicit midpoint", ((0.0, 0.0), (0.5, 0.0)), (0.0, 1.0), 2)
    assert contractivity_radius(midpoint) == 0


@EACH
def test_the_stability_function_is_the_factor_of_a_step(tableau):
    turn, w = torch.tensor([[-0.3, -0.4], [0.4, -0.3]], dtype=torch.float64), torch.tensor([-0.3 + 0.4j])
    (end,) = step(lambda t, parts: (parts[0] @ turn.T,), tableau, 0.0, (torch.tensor([[1.0, 0.0]]).double(),), 1.0).end
    assert_close(torch.view_as_complex(end), stability_function(tableau, w.to(torch.complex128)))


@EACH
def test_on_the_interval_no_step_grows_and_beyond_it_one_does(tableau):
    end = real_interval(tableau)
    places = torch.linspace(0, min(end, 50.0), 401, dtype=torch.float64)
    assert float(stability_function(tableau, -places + 0j).abs().max()) <= 1 + 1e-9
    if math.isfinite(end):
        beyond = stability_function(tableau, torch.tensor([-1.01 * end + 0j], dtype=torch.complex128))
        assert float(beyond.abs()) > 1


@EACH
def test_the_disk_of_the_radius_lies_in_the_region_and_reaches_its_edge_at_the_origin(tableau):
    radius = contractivity_radius(tableau)
    if radius == 0:
        return
    r = min(radius, 20.0)
    angles = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)
    rim = -r + r * torch.exp(1j * angles)
    assert float(stability_function(tableau, rim).abs().max()) <= 1 + 1e-9


def test_a_contractive_step_is_two_radii_over_the_squared_norm():
    assert contractive_step(KUTTA4, 3.0) == pytest.approx(2 / 9)
    assert contractive_step(KUTTA3, 1.0) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="norm"):
        contractive_step(EULER, 0.0)


def test_steps_of_very_small_and_very_large_norms_are_what_a_float_holds():
    assert contractive_step(KUTTA4, 1e-200) == math.inf
    assert contractive_step(KUTTA4, 1e200) == 0
    assert contractive_step(KUTTA4, 1e-150) == pytest.approx(2e300)
    assert contractive_step(IMPLICIT_EULER, 1e200) == math.inf


@pytest.mark.parametrize(
    ("w", "message"),
    [
        (1j, "w"),
        (torch.tensor([1]), "no fractions"),
        (torch.tensor([1.0], dtype=torch.float16), "16 bits"),
        (torch.tensor([math.nan]), "finite w"),
        (torch.tensor([[0.5, 1.0]]), "poles of implicit Euler; got 1"),
        (torch.tensor(1.0 + 0j), "poles"),
    ],
)
def test_what_has_no_stability_function_is_refused(w, message):
    with pytest.raises(ValueError, match=message):
        unwrap(stability_function)(IMPLICIT_EULER, w)


def test_the_stability_function_of_a_real_number_is_real():
    assert_close(stability_function(EULER, torch.tensor(-0.5)), torch.tensor(0.5))


def chebyshev(stages, damping):
    """The explicit method whose stability function is a Chebyshev polynomial: of all the longest interval, 2s²."""
    start = 1 + damping / stages**2
    values, slopes = [1.0, start], [0.0, 1.0]
    for j in range(2, stages + 1):
        values.append(2 * start * values[-1] - values[-2])
        slopes.append(2 * values[j - 1] + 2 * start * slopes[-1] - slopes[-2])
    scale = values[stages] / slopes[stages]
    rows = np.zeros((stages + 1, stages))
    rows[1, 0] = scale / start
    for j in range(2, stages + 1):
        rows[j] = (2 * start * values[j - 1] * rows[j - 1] - values[j - 2] * rows[j - 2]) / values[j]
        rows[j, j - 1] += 2 * scale * values[j - 1] / values[j]
    return Tableau("Chebyshev", tuple(map(tuple, rows[:-1].tolist())), tuple(rows[-1].tolist()), 1)


@pytest.mark.parametrize("stages", [2, 3, 5, 8, 12, 16, 24, 30])
def test_the_interval_of_chebyshev_methods_is_the_known_one_for_many_stages(stages):
    assert_close(real_interval(chebyshev(stages, 0.0)), 2.0 * stages**2, rtol=1e-9, atol=0)
    damped = chebyshev(stages, 0.05)
    end = real_interval(damped)
    near = torch.tensor([end * (1 - 1e-6), end * (1 + 1e-6)], dtype=torch.float64)
    inside, beyond = stability_function(damped, -near).abs().tolist()
    assert inside <= 1 < beyond
    assert 1.85 * stages**2 < end < 2 * stages**2
