import pytest
import torch
from torch.nn.functional import pad
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.data.augment import Augmentation, compose, cutout, flip, random_crop

ALL = {
    "random_crop": random_crop(2),
    "flip": flip(),
    "cutout": cutout(3),
    "compose": compose(random_crop(2), flip(), cutout(3)),
}


def photographs(samples: int, side: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randint(1, 256, (samples, 3, side, side), generator=generator(seed), dtype=torch.uint8)


def numbers(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows)


def test_crops_by_hand():
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)[None, None]
    crop = random_crop(1)
    for row, expected in {
        (0.0, 0.0): [[0, 0], [0, 1]],  # the window starts one pixel above and left of the image
        (0.0, 0.5): [[0, 0], [1, 2]],
        (0.5, 0.5): [[1, 2], [3, 4]],
        (0.9, 0.5): [[3, 4], [0, 0]],
        (0.5, 0.9): [[2, 0], [4, 0]],
        (0.9, 0.9): [[4, 0], [0, 0]],
    }.items():
        assert crop.apply(image, numbers(row))[0, 0].tolist() == expected


def test_crops_agree_with_one_window_at_a_time():
    x = photographs(50)
    drawn = random_crop(3).draw(50, generator(1))
    slow = []
    for image, (top, left) in zip(pad(x, [3, 3, 3, 3]), (drawn * 7).floor().long().tolist(), strict=True):
        slow.append(image[:, top : top + 8, left : left + 8])
    assert torch.equal(random_crop(3).apply(x, drawn), torch.stack(slow))


@pytest.mark.parametrize("padding", range(1, 17))
def test_the_largest_random_number_gives_the_last_window(padding):
    largest = 1 - 2**-24  # of torch.rand in float32
    x = photographs(1, side=20)
    shifted = random_crop(padding).apply(x, numbers((largest, largest)))
    assert torch.equal(shifted[:, :, : 20 - padding, : 20 - padding], x[:, :, padding:, padding:])
    assert not shifted[:, :, 20 - padding :].any()


def test_all_shifts_are_alike_likely():
    samples, padding = 20_000, 2
    x = torch.zeros(samples, 1, 5, 5, dtype=torch.uint8)
    x[:, :, 2, 2] = 1  # the middle pixel lands on every place of the image
    counts = random_crop(padding)(x, generator(2)).sum(0)[0].double()
    share = 1 / 25
    assert counts.sum() == samples
    assert ((counts - samples * share).abs() < 5 * (samples * share * (1 - share)) ** 0.5).all()


def test_flips_mirror_left_to_right():
    image = torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=torch.uint8)[None, None]
    assert flip().apply(image, numbers((0.4,)))[0, 0].tolist() == [[3, 2, 1], [6, 5, 4]]
    assert torch.equal(flip().apply(image, numbers((0.5,))), image)


def test_two_flips_are_none():
    x, drawn = photographs(20), flip().draw(20, generator(3))
    once = flip().apply(x, drawn)
    assert not torch.equal(once, x)
    assert torch.equal(flip().apply(once, drawn), x)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_flips_are_as_frequent_as_asked(probability):
    samples = 10_000
    x = torch.tensor([0, 1], dtype=torch.uint8).expand(samples, 1, 1, 2)
    flipped = flip(probability)(x, generator(4))[:, 0, 0, 0].sum().item()
    assert abs(flipped - samples * probability) <= 5 * (samples * probability * (1 - probability)) ** 0.5


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_cut_out_square_is_clipped_at_the_border(size):
    side = 6
    centres = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    x = photographs(side * side, side=side)
    out = cutout(size).apply(x, (centres + 0.5) / side)
    for before, after, (row, column) in zip(x, out, centres.tolist(), strict=True):
        expected = before.clone()
        top, left = row - size // 2, column - size // 2
        expected[:, max(top, 0) : top + size, max(left, 0) : left + size] = 0
        assert torch.equal(after, expected)
    assert ((out == 0).all(1).sum((1, 2)) == size**2).sum() == (side - size + 1) ** 2  # squares that fit whole


def test_the_mean_area_of_a_cutout_is_that_of_uniform_centres():
    samples, side, size = 5000, 8, 4
    x = torch.ones(samples, 1, side, side, dtype=torch.uint8)
    area = (cutout(size)(x, generator(5)) == 0).double().sum((1, 2, 3))
    lengths = [min(c + 2, side) - max(c - 2, 0) for c in range(side)]
    expected = (sum(lengths) / side) ** 2  # rows and columns are independent
    assert_close(area.mean().item(), expected, atol=5 * area.std().item() / samples**0.5, rtol=0)


def test_composition_applies_its_parts_in_order_each_with_its_own_numbers():
    x = photographs(30)
    both = compose(random_crop(2), flip())
    drawn = both.draw(30, generator(6))
    assert drawn.shape == (30, 3)
    cropped = random_crop(2).apply(x, drawn[:, :2])
    assert torch.equal(both.apply(x, drawn), flip().apply(cropped, drawn[:, 2:]))
    assert not torch.equal(both.apply(x, drawn), random_crop(2).apply(flip().apply(x, drawn[:, 2:]), drawn[:, :2]))


@pytest.mark.parametrize("name", ALL)
def test_bytes_stay_bytes_and_one_generator_gives_one_result(name):
    augment, x = ALL[name], photographs(40)
    before = x.clone()
    out = augment(x, generator(7))
    assert out.dtype == torch.uint8
    assert out.shape == x.shape
    assert torch.equal(x, before)  # not changed in place
    assert torch.equal(augment(x, generator(7)), out)
    assert not torch.equal(augment(x, generator(8)), out)


@pytest.mark.parametrize("name", ALL)
def test_each_sample_has_its_own_draw_and_keeps_it_within_a_part_of_the_batch(name):
    augment = ALL[name]
    x = photographs(1).expand(40, -1, -1, -1)
    drawn = augment.draw(40, generator(9))
    out = augment.apply(x, drawn)
    assert len(out.unique(dim=0)) > 1
    assert torch.equal(augment.apply(x[1::3], drawn[1::3]), out[1::3])


@pytest.mark.parametrize("make", [lambda: random_crop(0), lambda: cutout(0), lambda: flip(1.5), lambda: flip(-0.1)])
def test_impossible_augmentations_are_refused_in_one_line(make):
    with pytest.raises(ValueError, match="; got ") as caught:
        make()
    assert "\n" not in str(caught.value)


def test_an_augmentation_of_ones_own_joins_the_others():
    darker = Augmentation(1, lambda x, u: (x * u.view(-1, 1, 1, 1)).to(x.dtype))
    x = photographs(4)
    assert torch.equal(compose(darker, flip(0.0)).apply(x, torch.zeros(4, 2)), torch.zeros_like(x))
