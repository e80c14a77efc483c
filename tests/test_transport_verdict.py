"""The verdict on a map from made-up parts: both sides of every threshold."""

import math

import pytest

from regimes.transport.brenier import CONSTANT, FLAT, STILL, BrenierTest
from regimes.transport.monotone import Cycle
from regimes.transport.pairing import Gap
from regimes.transport.power import Departed, Power
from regimes.transport.verdict import ASYMMETRY, EIGENVALUE, RELATIVE_GAP, judge

NOTHING = "optimal as far as these tests see"


def exact(relative=0.0, **changes):
    """A pairing of that relative gap, then changed."""
    made = Gap(
        cost_network=2.0,
        cost_ot=2.0 * (1 - relative),
        gap=2.0 * relative,
        relative_gap=relative,
        certified=True,
        gap_low=2.0 * relative,
        gap_high=2.0 * relative + 1e-12,
        cost_ot_high=2.0 * (1 - relative),
        dual_value=2.0 * (1 - relative) - 1e-12,
        max_violation=1e-12,
        worst_cycle=Cycle(3, 100.0 * relative, (0, 1, 2)) if relative else Cycle(0, 0.0, ()),
        points=50,
        dim=6,
        p=2.0,
    )
    return made._replace(**changes)


def local(asymmetry=1e-8, se=1e-9, least=0.2, size=1.0):
    return BrenierTest(asymmetry, se, least, 50, 8, 0, size)


def powered(size=1.0, **gap_sees):
    """Kinds of departure, each with the smallest amplitude that the gap sees."""
    departed = tuple(Departed(name, 1.0, size, 0.0, True, None, None) for name in gap_sees)
    return Power(departed, gap_sees, {"rotation": 0.02}, 50, 6)


STOPPED = {"certified": False, "cost_ot": None, "gap": None, "relative_gap": None, "gap_high": 0.4}
SHARP, BLUNT = powered(rotation=0.25, noise=0.05), powered(rotation=0.25, noise=None)


@pytest.mark.parametrize(
    ("gap", "options", "expected"),
    [
        (exact(), {"test": local()}, (NOTHING, "no gap", "satisfied")),
        (exact(RELATIVE_GAP / 2), {"test": local()}, (NOTHING, "no gap", "satisfied")),
        (exact(2 * RELATIVE_GAP), {"test": local()}, ("not optimal", "gap", "satisfied")),
        (exact(2 * RELATIVE_GAP), {}, ("not optimal", "gap", "untested")),
        (exact(0.3), {"test": local(0.5)}, ("not optimal", "gap", "violated")),
        (exact(), {"test": local(2 * ASYMMETRY)}, ("not a gradient map", "no gap", "violated")),
        (exact(), {"test": local(2 * ASYMMETRY, ASYMMETRY / 2)}, ("undecided", "no gap", "unclear")),
        (exact(), {"test": local(ASYMMETRY / 2, ASYMMETRY / 2)}, ("undecided", "no gap", "unclear")),
        (exact(), {"test": local(2 * ASYMMETRY, math.nan)}, ("not a gradient map", "no gap", "violated")),
        (exact(), {"test": local(math.inf, math.nan)}, ("not a gradient map", "no gap", "violated")),
        (exact(), {"test": local(least=2 * EIGENVALUE)}, ("not a gradient map", "no gap", "violated")),
        (exact(), {"test": local(least=2 * EIGENVALUE, size=10.0)}, (NOTHING, "no gap", "satisfied")),
        (exact(), {"test": local(least=math.nan)}, (NOTHING, "no gap", "satisfied")),
        (exact(), {"test": local(math.nan, math.nan)}, ("undecided", "no gap", "unclear")),
        (exact(), {"test": local(), "image": local(math.nan, math.nan)}, ("undecided", "no gap", "unclear")),
        (exact(), {"test": local(), "image": local(0.2, 0.01)}, ("not a gradient map", "no gap", "violated")),
        (exact(), {"test": local(0.4), "image": local(0.0, 0.0)}, (NOTHING, "no gap", "satisfied")),
        # No test, and why.
        (exact(), {"missing": CONSTANT}, (NOTHING, "no gap", "satisfied")),
        (exact(), {"missing": CONSTANT, "power": BLUNT}, (NOTHING, "no gap", "satisfied")),
        (exact(), {"missing": STILL, "power": SHARP}, ("undecided", "no gap", "unclear")),
        (exact(), {"missing": FLAT, "power": SHARP}, ("undecided", "no gap", "unclear")),
        # The gap alone.
        (exact(), {}, ("undecided", "no gap", "untested")),
        (exact(), {"power": SHARP}, (NOTHING, "no gap", "untested")),
        (exact(), {"power": BLUNT}, ("blind", "no gap", "untested")),
        (exact(), {"power": powered(size=0.1, rotation=None)}, (NOTHING, "no gap", "untested")),
        (exact(), {"power": powered(size=0.6, rotation=None)}, ("blind", "no gap", "untested")),
        (exact(), {"test": local(), "power": BLUNT}, (NOTHING, "no gap", "satisfied")),
        # A solve that was stopped.
        (exact(**STOPPED), {"test": local()}, ("undecided", "unknown", "satisfied")),
        (exact(**STOPPED), {"power": SHARP}, ("undecided", "unknown", "untested")),
        (exact(**STOPPED), {"test": local(0.5)}, ("not a gradient map", "unknown", "violated")),
        (exact(**{**STOPPED, "gap_low": 0.1}), {"test": local()}, ("not optimal", "gap", "satisfied")),
        (exact(cost_network=0.0), {}, (NOTHING, "no gap", "satisfied")),
    ],
)
def test_the_verdict_on(gap, options, expected):
    found = judge(gap, **options)
    assert (found.verdict, found.exact, found.infinitesimal) == expected


def test_the_sentence_names_number_and_threshold():
    assert "relative gap 0.031, certified, threshold 1e-06" in judge(exact(0.031)).words
    violated = judge(exact(), local(0.04, 0.001)).words
    assert "not an OT map of any law with a density" in violated
    assert "asymmetry 0.04 ± 0.001, a skew part of 20 % of the symmetric one; threshold 0.0001" in violated
    assert "least eigenvalue -0.5" in judge(exact(), local(least=-0.5)).words
    assert "the relative gap is in [0, 0.2]" in judge(exact(**STOPPED), local()).words


def test_what_would_have_shown_is_said_of_a_map_that_passes():
    said = judge(exact(), local(), power=SHARP).words
    assert "the gap would have seen rotation from 0.25, noise from 0.05" in said
    assert "Brenier's test would have seen rotation from 0.02" in said


def test_the_power_of_a_test_along_the_image_is_said_to_be_that_over_all_directions():
    along = judge(exact(), local(), image=local(0.0, 0.0), power=SHARP)
    assert "Brenier's test over all directions would have seen rotation from 0.02" in along.words
    assert "test over all directions would" not in judge(exact(), local(), power=SHARP).words


def test_a_gap_that_is_blind_is_said_to_be():
    for test in (None, local(0.1)):
        said = judge(exact(), test, power=BLUNT).words
        assert "the gap is blind here: in d = 6 with 50 points noise as large as" in said
        assert "blind" not in judge(exact(), test, power=SHARP).words
    assert "Give T as a callable" in judge(exact(), power=BLUNT).words


def test_directions_off_the_image_of_the_encoder_decide_nothing():
    said = judge(exact(), local(0.4), image=local(0.0, 0.0), inputs=3).words
    assert "an OT map as far as these tests see" in said
    assert "the points fill 3 at most" in said
    assert "the asymmetry is 0.4: that alone would decide nothing" in said
