import os
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch.testing import assert_close

from regimes.data import cifar, files, images
from regimes.data.classification import CONSTANTS, NAMES, SHAPES, Labelled, classification
from regimes.data.images import Images, balanced

POOL, HELD = 400, 100
PLANE = ("circles", "donut1d", "donut2d", "squares2d", "spiral2d")
CLASSES = {**dict.fromkeys(PLANE, 2), "digits": 10, "mnist": 10, "cifar10": 10, "cifar100": 100}


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """400 training and 100 test images in place of each data set read from files; the first two bytes number them.

    Classes are uneven, the larger a label the rarer, but each label occurs twice or more.
    """

    def made(name: str, classes: int):
        def read(data_dir=None) -> Images:
            pixels = torch.Size(SHAPES[name]).numel()
            number = torch.arange(POOL + HELD)
            x = torch.arange(pixels).remainder(256).to(torch.uint8).repeat(POOL + HELD, 1)
            x[:, 0], x[:, 1] = number // 256, number % 256
            spread = torch.linspace(0, 1, POOL).square().mul(classes).long().clamp(max=classes - 1)
            spread[: 2 * classes] = torch.arange(classes).repeat(2)
            labels = torch.cat([spread, number[:HELD] % classes])
            return Images(name, x[:POOL], labels[:POOL], x[POOL:], labels[POOL:], brightest=255)

        return read

    monkeypatch.setattr(images, "mnist", made("mnist", 10))
    monkeypatch.setattr(cifar, "cifar10", made("cifar10", 10))
    monkeypatch.setattr(cifar, "cifar100", made("cifar100", 100))


def numbers(data: Labelled) -> list[int]:
    """The numbers that the images of the fixture carry."""
    first = data.x.flatten(1)[:, :2].long()
    return (256 * first[:, 0] + first[:, 1]).tolist()


def rows(data: Labelled) -> set[tuple[float, ...]]:
    return {tuple(row) for row in data.x.flatten(1).tolist()}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_gives_the_parts_asked_for_in_the_documented_form(name):
    data = classification(name, train_size=150, validation=30, test_size=60, seed=1)
    assert data.name == name
    assert data.classes == CLASSES[name]
    assert data.validation is not None
    assert data.shape == SHAPES.get(name, (2,))
    for part, size in ((data.train, 150), (data.validation, 30), (data.test, 60)):
        assert part.x.shape == (size, *data.shape)
        assert part.x.dtype == (torch.float64 if name in PLANE else torch.uint8)
        assert part.labels.shape == (size,)
        assert part.labels.dtype == torch.int64
        assert 0 <= int(part.labels.min()) <= int(part.labels.max()) < data.classes
        normal = data.normalise(part.x)
        assert normal.dtype == torch.float32
        assert normal.shape == part.x.shape


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_sizes_left_out_take_all_there_are(name):
    data = classification(name)
    assert sorted(numbers(data.train)) == list(range(POOL))
    assert sorted(numbers(data.test)) == list(range(POOL, POOL + HELD))
    assert data.validation is None
    data = classification(name, validation=70)
    assert data.validation is not None
    assert sorted(numbers(data.train) + numbers(data.validation)) == list(range(POOL))
    assert len(data.train.labels) == 330


@pytest.mark.parametrize("choose", [images.uniform, balanced])
def test_training_validation_and_test_samples_never_meet(choose):
    data = classification("cifar10", train_size=20, validation=20, test_size=50, choose=choose, seed=2)
    assert data.validation is not None
    train, validation, test = (set(numbers(part)) for part in (data.train, data.validation, data.test))
    assert (len(train), len(validation), len(test)) == (20, 20, 50)
    assert not train & validation
    assert max(train | validation) < POOL <= min(test)


def test_labels_stay_with_their_images():
    source = images.mnist()
    labels = torch.cat([source.labels_train, source.labels_test])
    data = classification("mnist", train_size=90, validation=40, test_size=30, seed=3)
    for part in (data.train, data.validation, data.test):
        assert part is not None
        assert torch.equal(part.labels, labels[numbers(part)])


@pytest.mark.parametrize("name", ["circles", "digits", "mnist"])
@pytest.mark.parametrize("choose", [images.uniform, balanced])
def test_smaller_training_sets_are_parts_of_larger_ones_whatever_the_other_sizes(name, choose):
    def train(size: int, **sizes: int) -> set[tuple[float, ...]]:
        return rows(classification(name, train_size=size, choose=choose, seed=4, **sizes).train)

    small, large = train(13), train(20)
    assert len(small) == 13
    assert len(large) == 20
    assert small < large
    assert small == train(13, validation=10) == train(13, validation=7, test_size=30)
    assert small != rows(classification(name, train_size=13, choose=choose, seed=5).train)


@pytest.mark.parametrize("name", ["circles", "digits", "cifar100"])
def test_one_seed_gives_one_data_set(name):
    def drawn(seed: int) -> list[torch.Tensor]:
        data = classification(name, train_size=100, validation=50, test_size=40, seed=seed)
        assert data.validation is not None
        return [tensor for part in (data.train, data.validation, data.test) for tensor in part]

    for one, same, other in zip(drawn(6), drawn(6), drawn(7), strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


def test_another_seed_draws_other_circles_and_other_validation_samples():
    one, other = (rows(classification("circles", seed=seed).train) for seed in (6, 7))
    assert not one & other  # other points, not another choice among the same
    validation = [classification("mnist", train_size=1, validation=20, seed=seed).validation for seed in (6, 7)]
    one, other = (set(numbers(part)) for part in validation if part is not None)
    assert len(one & other) < 10  # one is expected by chance


def test_a_balanced_choice_has_equal_counts_and_a_uniform_one_follows_the_pool():
    even = classification("mnist", train_size=52, validation=10, test_size=20, choose=balanced, seed=8)
    assert even.train.labels.bincount().tolist() == [6, 6] + [5] * 8
    assert even.validation is not None
    assert even.validation.labels.bincount().tolist() == [1] * 10
    assert even.test.labels.bincount().tolist() == [2] * 10
    share = (images.mnist().labels_train == 0).double().mean()
    counts = torch.tensor([(classification("mnist", train_size=50, seed=s).train.labels == 0).sum() for s in range(40)])
    error = (50 * share * (1 - share) / 40).sqrt()  # of the mean count; drawing without replacement makes it smaller
    assert (counts.double().mean() - 50 * share).abs() < 5 * error
    assert len(counts.unique()) > 3


def test_a_balanced_choice_beyond_the_rarest_class_is_refused():
    with pytest.raises(ValueError, match="balanced needs 40 samples of class"):
        classification("mnist", train_size=400 - 1, choose=balanced)


def test_circles_are_a_thousand_points_on_two_radii_left_as_they_are():
    data = classification("circles", seed=9)
    assert len(data.train.labels) == 800
    assert len(data.test.labels) == 200
    assert len(rows(data.train) | rows(data.test)) == 1000
    labels = torch.cat([data.train.labels, data.test.labels])
    assert labels.bincount().tolist() == [500, 500]
    for label, radius in ((0, 1.0), (1, 0.3)):
        part = data.train.x[data.train.labels == label].norm(dim=1)
        assert_close(part.mean().item(), radius, atol=0.02, rtol=0)  # noise 0.05: 5 standard errors, and its curvature
        assert 0.03 < part.std().item() < 0.07
    assert_close(data.normalise(data.train.x), data.train.x.float(), rtol=0, atol=0)
    assert torch.equal(data.to(dtype=torch.float64).normalise(data.train.x), data.train.x)


def test_digits_hold_out_a_fifth_and_are_normalised_by_the_rest():
    data = classification("digits", seed=10)
    assert (len(data.train.labels), len(data.test.labels)) == (1438, 359)
    original = {tuple(image.flatten().tolist()) for image in load_digits().images}
    assert rows(data.train) | rows(data.test) == original
    normal = data.to(dtype=torch.float64).normalise(data.train.x)
    assert_close(normal.mean().item(), 0.0, atol=1e-6, rtol=0)  # the constants are float32
    assert_close(normal.std().item(), 1.0, atol=1e-6, rtol=0)
    few = classification("digits", train_size=20, test_size=10, seed=10)
    assert_close(few.normalise.mean, data.normalise.mean, rtol=0, atol=0)
    assert rows(few.test) < rows(data.test)
    assert rows(classification("digits", seed=11).test) != rows(data.test)


def test_digits_stand_upright():
    image = torch.from_numpy(load_digits().images[0]).to(torch.uint8)
    data = classification("digits")
    assert any(torch.equal(image, found) for found in torch.cat([data.train.x, data.test.x])[:, 0])


def test_constants_are_those_of_the_data_set_channel_by_channel():
    data = classification("cifar10")
    white = data.normalise(torch.full((1, 3, 32, 32), 255, dtype=torch.uint8))
    mean, deviation = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2470, 0.2435, 0.2616])
    assert_close(white[0, :, 5, 7], (1 - mean) / deviation)
    assert_close(classification("mnist").normalise.mean, torch.tensor([0.1307]))
    assert_close(classification("cifar100").normalise.deviation, torch.tensor([0.2673, 0.2564, 0.2762]))


def test_all_parts_move_to_a_device_together():
    data = classification("digits", train_size=20, validation=5).to("meta")
    assert data.validation is not None
    moved = [*data.train, *data.validation, *data.test, data.normalise.mean, data.normalise.deviation]
    assert all(tensor.is_meta for tensor in moved)
    kept = classification("digits", train_size=20).to("cpu")
    assert kept.validation is None
    assert not kept.train.x.is_meta


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=f"one of {', '.join(PLANE)}, digits, mnist, cifar10, cifar100; got 'cifar'"):
        classification("cifar")


@pytest.mark.parametrize(
    "sizes",
    [
        {"train_size": 0},
        {"train_size": -3},
        {"train_size": 401},
        {"validation": -1},
        {"validation": 400},
        {"train_size": 300, "validation": 101},
        {"test_size": 0},
        {"test_size": -1},
        {"test_size": 101},
    ],
)
def test_impossible_sizes_are_refused_in_one_line(sizes):
    with pytest.raises(ValueError, match=r"mnist has 400 samples .* and 100 for the test; got ") as caught:
        classification("mnist", **sizes)
    assert all(f"{name}={size}" in str(caught.value) for name, size in sizes.items())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sizes", [{"train_size": 300, "validation": 100}, {"validation": 399, "test_size": 100}])
def test_the_largest_possible_sizes_are_allowed(sizes):
    assert len(classification("mnist", **sizes).train.labels) == 400 - sizes["validation"]


READERS = {"mnist": images.mnist, "cifar10": cifar.cifar10, "cifar100": cifar.cifar100}  # before the fixture's patch
FILES = {
    "mnist": (files.MNIST, files.RAW),
    "cifar10": (cifar.CIFAR10.files, cifar.CIFAR10.folder),
    "cifar100": (cifar.CIFAR100.files, cifar.CIFAR100.folder),
}


@pytest.mark.parametrize("name", FILES)
def test_the_constants_are_the_mean_and_deviation_of_the_original_files(name):
    folder = os.environ.get("REGIMES_DATA_DIR")
    if folder is None or files.search(*FILES[name], [Path(folder)]) is None:
        pytest.skip(f"needs {name}'s files in REGIMES_DATA_DIR")
    x = READERS[name](folder).x_train.unflatten(1, SHAPES[name]).transpose(0, 1).flatten(1)
    for pixels, mean, deviation in zip(x, *CONSTANTS[name], strict=True):
        share = pixels.bincount(minlength=256).double() / len(pixels)
        value = torch.arange(256) / 255
        measured = (share * value).sum()
        assert_close(measured.item(), mean, atol=5e-5, rtol=0)  # four digits
        assert_close((share * (value - measured).square()).sum().sqrt().item(), deviation, atol=5e-5, rtol=0)


@pytest.mark.parametrize("name", PLANE)
def test_points_of_the_plane_come_by_name_and_are_left_as_they_are(name):
    data = classification(name, seed=9)
    assert (len(data.train.labels), len(data.test.labels)) == (800, 200)
    assert len(rows(data.train) | rows(data.test)) == 1000
    assert_close(data.normalise(data.train.x), data.train.x.float(), rtol=0, atol=0)


def test_donuts_by_name_have_the_radii_of_their_labels():
    data = classification("donut2d", seed=9)
    radii = [data.train.x[data.train.labels == label].norm(dim=1).mean() for label in (0, 1)]
    assert radii[1] < 0.3 < 0.4 < radii[0]
