"""The plane of the clouds, the reduced costs, and the figure of ot-gap."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.random import default_rng
from scipy.sparse import identity
from torch.testing import assert_close

from regimes.jobs.ot_gap.figure import draw
from regimes.jobs.ot_gap.groups import Group
from regimes.jobs.ot_gap.measure import _slack
from regimes.jobs.ot_gap.plane import plane
from regimes.lab.figures import save
from regimes.transport.discrete import exact_transport


@pytest.mark.parametrize("d", [3, 200])  # fewer and more features than points
def test_the_plane_is_that_of_largest_variance(d):
    rng = default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(d, 2)))[0]
    flat = rng.normal(size=(40, 2)) * [3.0, 1.0]
    x = flat @ basis.T + 7
    found = plane(x, x + basis[:, 0], identity(40, format="coo"))
    assert_close(found["share"].sum(), 1.0)
    assert found["share"][0] > 0.7
    distance = np.linalg.norm(found["before"][:, None] - found["before"], axis=2)
    assert_close(distance, np.linalg.norm(x[:, None] - x, axis=2))  # nothing is lost: all points lie in that plane
    assert_close(np.linalg.norm(found["after"] - found["before"], axis=1), np.ones(40))


def test_two_features_are_their_own_plane_and_the_plan_is_followed():
    x = default_rng(1).normal(size=(10, 2))
    swapped = identity(10, format="csr")[[1, 0, *range(2, 10)]].tocoo()
    found = plane(x, x + 1, swapped)
    assert_close(found["before"], x)
    assert_close(found["optimal"][:2], (x + 1)[[1, 0]])
    assert_close(found["optimal"][2:], found["after"][2:])


def test_own_pairs_are_tight_if_and_only_if_the_pairing_is_optimal():
    x = default_rng(2).normal(size=(60, 2))
    own, others = _slack(x, 2 * x, exact_transport(x, 2 * x, paired=True), 2.0)
    assert own.max() < 1e-9
    assert others.min() >= 0
    turned = x @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    solved = exact_transport(x, turned, paired=True)
    own, others = _slack(x, turned, solved, 2.0)
    # Primal − dual: what the own pairing costs too much is the mean of its slack.
    assert_close(own.mean(), np.square(x - turned).sum(1).mean() - solved.cost, rtol=1e-7, atol=1e-9)
    assert others.max() >= 0


def drawing(arrays, **changes):
    """The figure of made-up numbers."""
    numbers = {
        **{
            "points": 30,
            "split": "test",
            "dim": 5,
            "label": "net",
            "dataset": "digits",
            "cost_network": 5.0,
            "seed": 0,
        },
        **{"certified": False, "block_asymmetry": [None, 0.0, 0.1], "block_asymmetry_se": [None, 0.0, 0.01]},
        **{"brenier_asymmetry": None, "image_asymmetry": None},
    }
    drawn = draw(Group("net", ({**numbers, **changes},)), arrays)
    FigureCanvasAgg(drawn).draw()  # a canvas of no backend draws nothing, and lays nothing out
    return drawn


def made(x, t):
    rng = default_rng(3)
    arrays = {"steps": rng.random((len(x), 3)), "own_slack": np.zeros(len(x)), "other_slack": rng.random(len(x))}
    return arrays | plane(x, t, identity(len(x), format="coo"))


def test_blocks_without_a_test_and_a_map_without_one_are_drawn():
    x = default_rng(3).normal(size=(30, 5))
    drawn = drawing(made(x, x + 1))
    assert [axis.get_title() for axis in drawn.axes] == [
        "clouds and pairings",
        "how far each block moves the points",
        "slack under best known dual prices",
        "asymmetry of the Jacobian",
    ]
    assert "of variance" in drawn.axes[0].get_xlabel()
    assert "10 to 90 %" in drawn.get_supxlabel().replace("\N{NO-BREAK SPACE}", " ")


def insets(drawn):
    return [child.get_xlabel() for child in drawn.axes[0].child_axes]


@pytest.mark.parametrize("d", [2, 5])
def test_a_cloud_that_is_a_dot_and_pairs_too_short_to_see_are_enlarged(d):
    x = default_rng(3).normal(size=(30, d))
    assert insets(drawing(made(x, x + 1), dim=d)) == []
    assert insets(drawing(made(x, 100 * x), dim=d)) == ["the cloud before, enlarged"]
    assert insets(drawing(made(x, x + 1e-3), dim=d)) == ["pairs near the middle, enlarged"]
    still = np.zeros((30, d))
    assert insets(drawing(made(still, still), dim=d)) == []


def test_points_that_an_inset_would_not_enlarge_have_none():
    x = default_rng(3).normal(size=(3, 5))
    assert insets(drawing(made(x, x + 1e-3))) == []


@pytest.mark.parametrize("end", [lambda x: x + 1, lambda x: 100 * x, lambda x: x + 1e-3])
def test_two_features_have_equal_units_whatever_is_enlarged(end):
    x = default_rng(3).normal(size=(30, 2)) * [1.0, 5.0]
    axis = drawing(made(x, end(x)), dim=2).axes[0]
    across = axis.transData.transform((1.0, 0.0))[0] - axis.transData.transform((0.0, 0.0))[0]
    up = axis.transData.transform((0.0, 1.0))[1] - axis.transData.transform((0.0, 0.0))[1]
    assert_close(across, up, rtol=1e-6, atol=0)
    shown = np.concatenate([x, end(x)])
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    assert left <= shown[:, 0].min() <= shown[:, 0].max() <= right
    assert low <= shown[:, 1].min() <= shown[:, 1].max() <= high


@pytest.mark.parametrize("zero", [0.0, 1e-30])
def test_an_asymmetry_of_0_does_not_stretch_the_axis(zero):
    x = default_rng(3).normal(size=(30, 5))
    axis = drawing(made(x, x + 1), block_asymmetry=[None, zero, 0.1], brenier_asymmetry=zero).axes[3]
    assert 1e-6 < axis.get_ylim()[0] < 1e-4
    plain = drawing(made(x, x + 1), block_asymmetry=[None, 1e-7, 0.1]).axes[3]
    assert 1e-9 < plain.get_ylim()[0] < 1e-7


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("end", [lambda x: 100 * x, lambda x: x + 1e-3])
def test_an_inset_lies_below_all_points(end, d):
    x = default_rng(5).normal(size=(400, 2))
    drawn = drawing(made(x, end(x)), dim=d)
    axis = drawn.axes[0]
    (inner,) = axis.child_axes
    top = axis.transData.inverted().transform(inner.get_window_extent())[1, 1]
    assert top < min(x[:, 1].min(), end(x)[:, 1].min())


@pytest.mark.slow
def test_a_name_in_any_script_is_drawn_without_a_warning(tmp_path):
    x = default_rng(3).normal(size=(30, 5))
    save(draw(Group("网络/последний", drawing_numbers()), made(x, x + 1)), tmp_path)
    assert (tmp_path / "figure.png").exists()


def drawing_numbers():
    return (
        {
            **{"points": 30, "split": "test", "dim": 5, "dataset": "digits", "cost_network": 5.0, "seed": 0},
            **{"certified": True, "block_asymmetry": [0.1], "block_asymmetry_se": [0.0]},
            **{"brenier_asymmetry": 0.1, "image_asymmetry": None},
        },
    )
