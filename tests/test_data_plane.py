import math

import pytest
import torch
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.data.plane import CELLS, PLANE, donut1d, donut2d, spiral2d, squares2d

SHARES = {"donut1d": 1 / 3, "donut2d": 1 / 2, "spiral2d": 1 / 2}


@pytest.mark.parametrize("name", PLANE)
def test_each_set_has_points_and_labels_in_random_order_from_its_generator(name):
    x, labels = PLANE[name](301, generator=generator(1))
    assert x.shape == (301, 2)
    assert x.dtype == torch.float64
    assert labels.shape == (301,)
    assert labels.dtype == torch.int64
    assert set(labels.tolist()) == {0, 1}
    assert int((labels.diff() != 0).sum()) > 20  # not sorted by class
    again, _ = PLANE[name](301, generator=generator(1))
    other, _ = PLANE[name](301, generator=generator(2))
    assert torch.equal(x, again)
    assert not torch.equal(x, other)
    single, _ = PLANE[name](301, generator=generator(1), dtype=torch.float32)
    assert torch.equal(single, x.float())


@pytest.mark.parametrize(("name", "share"), SHARES.items())
@pytest.mark.parametrize("samples", [1, 2, 7, 500])
def test_label_one_has_its_published_share_rounded_up(name, share, samples):
    _, labels = PLANE[name](samples, generator=generator(3))
    assert int(labels.sum()) == math.ceil(share * samples)


@pytest.mark.parametrize("name", PLANE)
def test_noise_comes_after_the_labels_and_has_the_deviation_asked_for(name):
    clean, labels = PLANE[name](20_000, noise=0.0, generator=generator(4))
    noisy, same = PLANE[name](20_000, noise=0.3, generator=generator(4))
    assert torch.equal(labels, same)
    squares = (noisy - clean).square().flatten()
    assert abs(squares.mean() - 0.09) < 5 * squares.std() / math.sqrt(len(squares))


@pytest.mark.parametrize(
    ("name", "noise"), {"donut1d": 0.1, "donut2d": 0.1, "squares2d": 0.1, "spiral2d": 0.05}.items()
)
def test_the_noise_is_the_published_one_where_none_is_given(name, noise):
    assert torch.equal(
        PLANE[name](50, generator=generator(5))[0], PLANE[name](50, noise=noise, generator=generator(5))[0]
    )


@pytest.mark.parametrize("draw", [donut1d, donut2d])
def test_the_radii_of_donuts_have_the_mean_square_of_their_law(draw):
    x, labels = draw(20_000, noise=0.0, generator=generator(6))
    line = torch.linspace(-1, 1, CELLS, dtype=torch.float64)
    places = line[:, None] if draw is donut1d else torch.cartesian_prod(line, line)
    if draw is donut1d:
        assert torch.equal(x[:, 1], torch.zeros(20_000).double())
    for label, middle in ((1, 0.0), (0, 0.5)):
        weights = (-(places.norm(dim=1) - middle).square() / 0.02).exp()
        expected = (weights * places.norm(dim=1).square()).sum() / weights.sum()
        squares = x[labels == label].square().sum(1)
        assert abs(squares.mean() - expected) < 5 * squares.std() / math.sqrt(len(squares))
        centre = x[labels == label].mean(0).abs()
        assert bool((centre <= 5 * x[labels == label].std(0) / math.sqrt(len(squares))).all())  # both sides alike


def test_squares_are_labelled_by_the_sign_of_the_product_and_fill_their_square():
    x, labels = squares2d(20_000, noise=0.0, generator=generator(7))
    assert torch.equal(labels, (x[:, 0] * x[:, 1] > 0).long())
    assert float(x.abs().max()) <= 0.7
    squares = x.square() - 0.7**2 / 3
    assert bool((squares.mean(0).abs() < 5 * squares.std(0) / math.sqrt(len(x))).all())


def test_the_arms_of_the_spiral_are_half_a_turn_apart_and_go_once_around():
    x, labels = spiral2d(500, noise=0.0, generator=generator(8))
    one, other = (x[labels == label] for label in (1, 0))
    one, other = (part[part.norm(dim=1).argsort()] for part in (one, other))
    assert_close(one, -other)
    assert_close(other.norm(dim=1), torch.linspace(0.1, 1, 250, dtype=torch.float64))
    assert_close(other[0], 0.1 * torch.tensor([math.cos(0.1), math.sin(0.1)], dtype=torch.float64))
    assert_close(other[-1], torch.tensor([1.0, 0.0], dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", PLANE)
@pytest.mark.parametrize("given", [{"samples": 0}, {"noise": -0.1}, {"noise": math.nan}])
def test_impossible_sizes_are_refused_by_name(name, given):
    with pytest.raises(ValueError, match=f"{name} needs {next(iter(given))}"):
        PLANE[name](**({"samples": 10} | given), generator=generator(0))
