import pytest
import torch
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.data.augment import compose, cutout, flip, random_crop
from regimes.data.batches import Batches
from regimes.data.classification import Labelled, Normalise

CHANGES = compose(random_crop(2), flip(), cutout(3))
NORMALISE = Normalise(torch.tensor([0.5, 0.25, 0.1]), torch.tensor([0.5, 0.25, 2.0]), 255)


def pictures(samples: int) -> Labelled:
    """Images, each with its own number as its label."""
    x = torch.randint(1, 256, (samples, 3, 8, 8), generator=generator(0), dtype=torch.uint8)
    return Labelled(x, torch.arange(samples))


def same(one, other) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(torch.equal(x, z) and torch.equal(y, w) for (x, y), (z, w) in pairs)


@pytest.mark.parametrize(("samples", "sizes"), [(20, [8, 8, 4]), (16, [8, 8]), (18, [8, 8, 2]), (5, [5])])
def test_an_epoch_shows_each_sample_once_with_its_own_label(samples, sizes):
    data = pictures(samples)
    batches = Batches(data, 8, seed=1)
    shown = list(batches.epoch(0))
    assert [len(y) for _, y in shown] == sizes
    assert len(batches) == len(sizes)
    labels = torch.cat([y for _, y in shown])
    assert labels.tolist() != list(range(samples))
    assert labels.sort().values.tolist() == list(range(samples))
    assert torch.equal(torch.cat([x for x, _ in shown]), data.x[labels])


def test_a_last_batch_of_one_is_left_out_of_shuffled_epochs_only():
    assert [len(y) for _, y in Batches(pictures(17), 8, seed=0).epoch(0)] == [8, 8]
    in_order = Batches(pictures(17), 8, shuffle=False)
    assert [len(y) for _, y in in_order.epoch(0)] == [8, 8, 1]
    assert len(in_order) == 3
    shown = [torch.cat([y for _, y in Batches(pictures(17), 8).epoch(epoch)]) for epoch in range(20)]
    assert len({sum(range(17)) - int(labels.sum()) for labels in shown}) > 1  # not always the same sample


def test_batches_of_one_are_possible_if_asked_for():
    assert [len(y) for _, y in Batches(pictures(3), 1).epoch(0)] == [1, 1, 1]


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat([y for _, y in Batches(pictures(40), 8, seed=seed).epoch(epoch)]).tolist()

    assert order(1, 3) == order(1, 3)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    used = Batches(pictures(40), 8, seed=1)
    for epoch in (0, 7):
        list(used.epoch(epoch))
    assert torch.cat([y for _, y in used.epoch(3)]).tolist() == order(1, 3)  # no state is left behind


@pytest.mark.parametrize("start", range(6))
def test_a_resumed_epoch_is_the_rest_of_the_whole_one(start):
    batches = Batches(pictures(38), 8, seed=2, normalise=NORMALISE, augment=CHANGES)
    whole = list(batches.epoch(4))
    assert len(whole) == 5
    assert same(batches.epoch(4, start), whole[start:])


def test_the_augmentation_differs_between_steps_epochs_and_seeds():
    images = pictures(1).x.expand(24, -1, -1, -1)

    def changed(seed: int, epoch: int) -> list[torch.Tensor]:
        data = Labelled(images, torch.zeros(24, dtype=torch.int64))
        return [x for x, _ in Batches(data, 8, seed=seed, augment=CHANGES).epoch(epoch)]

    kinds = [x for seed in (0, 1) for epoch in (0, 1) for x in changed(seed, epoch)]
    assert len(kinds) == 12
    assert all(not torch.equal(kinds[i], kinds[j]) for i in range(12) for j in range(i))


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("shuffle", [True, False])
def test_all_ranks_together_see_the_joined_batches(ranks, shuffle):
    joined = Batches(pictures(40), 16, seed=3, normalise=NORMALISE, augment=CHANGES, shuffle=shuffle)
    parts = [joined.shard(rank, ranks) for rank in range(ranks)]
    whole = list(joined.epoch(1))
    assert len(whole) == 3
    assert [len(part) for part in parts] == [3] * ranks
    for step, shares in enumerate(zip(*(part.epoch(1) for part in parts), strict=True)):
        x, y = whole[step]
        for rank, (share, labels) in enumerate(shares):
            assert torch.equal(share, x[rank::ranks])
            assert torch.equal(labels, y[rank::ranks])
        assert sum(len(labels) for _, labels in shares) == len(y)


@pytest.mark.parametrize(("samples", "length"), [(16, 2), (17, 2), (18, 3), (19, 3), (23, 3)])
def test_ranks_take_as_many_steps_as_one_alone_in_parts_that_differ_by_one_sample(samples, length):
    joined = Batches(pictures(samples), 8)
    sizes = [[len(y) for _, y in joined.shard(rank, 2).epoch(0)] for rank in (0, 1)]
    assert len(joined) == len(sizes[0]) == len(sizes[1]) == length
    for step, (first, second) in enumerate(zip(*sizes, strict=True)):
        assert first + second == joined.joined(step) == len(list(joined.epoch(0))[step][1])
        assert first - second in (0, 1)


def test_a_rank_leaves_out_its_empty_part_of_a_last_batch_that_is_not_shuffled():
    part = Batches(pictures(17), 8, shuffle=False).shard(1, 2)
    assert [len(y) for _, y in part.epoch(0)] == [4, 4]


def test_sharding_leaves_the_original_alone():
    joined = Batches(pictures(16), 8)
    part = joined.shard(1, 2)
    assert [len(y) for _, y in joined.epoch(0)] == [8, 8]
    assert [len(y) for _, y in part.epoch(0)] == [4, 4]


def test_images_are_normalised_after_their_augmentation():
    data = Labelled(torch.full((8, 3, 6, 6), 255, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64))
    x, _ = next(Batches(data, 8, seed=4, normalise=NORMALISE, augment=random_crop(2)).epoch(0))
    white, black = (1 - NORMALISE.mean) / NORMALISE.deviation, -NORMALISE.mean / NORMALISE.deviation
    assert x.dtype == torch.float32
    for channel in range(3):
        values = x[:, channel].unique()
        assert_close(values, torch.stack([black[channel], white[channel]]).sort().values)


def test_the_normalised_mean_and_deviation_are_zero_and_one_for_matching_constants():
    x = pictures(200).x
    pixels = x.double().transpose(0, 1).flatten(1) / 255
    normal = Normalise(pixels.mean(1), pixels.std(1), 255)(x).transpose(0, 1).flatten(1)
    assert normal.dtype == torch.float64
    assert_close(normal.mean(1), torch.zeros(3).double())
    assert_close(normal.std(1), torch.ones(3).double())


def test_batches_in_order_are_the_samples_as_stored():
    data = pictures(10)
    x, y = (torch.cat(tensors) for tensors in zip(*Batches(data, 4, shuffle=False).epoch(0), strict=True))
    assert torch.equal(x, data.x)
    assert torch.equal(y, data.labels)


def test_no_value_is_read_back_by_the_host():
    data = pictures(40).to("meta")  # holds no values: reading one is an error
    with pytest.raises((RuntimeError, NotImplementedError)):
        data.labels.max().item()
    batches = Batches(data, 16, normalise=NORMALISE.to("meta"), augment=CHANGES).shard(1, 2)
    shown = list(batches.epoch(0))
    assert [tuple(x.shape) for x, _ in shown] == [(8, 3, 8, 8), (8, 3, 8, 8), (4, 3, 8, 8)]
    assert all(x.is_meta and y.is_meta for x, y in shown)


@pytest.mark.parametrize("augment", [None, CHANGES])
@pytest.mark.parametrize("normalise", [None, NORMALISE])
def test_images_come_with_their_channels_last_where_asked(augment, normalise):
    kind = {"seed": 5, "augment": augment, "normalise": normalise}
    plain, last = (Batches(pictures(10), 4, **kind, channels_last=asked) for asked in (False, True))
    for (x, y), (z, w) in zip(plain.epoch(1), last.epoch(1), strict=True):
        assert torch.equal(x, z)
        assert torch.equal(y, w)
        assert x.is_contiguous()
        assert z.is_contiguous(memory_format=torch.channels_last)
    flat = Batches(Labelled(torch.randn(6, 2), torch.zeros(6, dtype=torch.long)), 3, channels_last=True)
    assert next(flat.epoch(0))[0].shape == (3, 2)


@pytest.mark.parametrize(("samples", "size", "ranks", "usual"), [(10, 4, 1, [4]), (3, 4, 1, [3]), (10, 5, 2, [3, 2])])
def test_the_usual_size_is_that_of_all_batches_but_the_last(samples, size, ranks, usual):
    batches = Batches(pictures(samples), size)
    assert [batches.shard(rank, ranks).usual for rank in range(ranks)] == usual


@pytest.mark.gpu
def test_a_gpu_sees_the_same_batches_without_waiting():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    kind = {"normalise": NORMALISE.to(dtype=torch.float64), "augment": CHANGES}
    here = list(Batches(pictures(40), 16, seed=5, **kind).epoch(2))
    kind["normalise"] = NORMALISE.to("cuda", torch.float64)
    batches = Batches(pictures(40).to("cuda"), 16, seed=5, **kind)
    torch.cuda.set_sync_debug_mode("error")
    try:
        there = list(batches.epoch(2))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for (x, y), (z, w) in zip(here, there, strict=True):
        assert_close(z.cpu(), x)
        assert torch.equal(w.cpu(), y)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Batches(pictures(8), 0), "size as a whole number, at least 1; got 0"),
        (lambda: Batches(pictures(1), 8), "at least 2 samples; got 1"),
        (lambda: Batches(pictures(0), 8, shuffle=False), "x is empty. Pass at least one"),
        (lambda: Batches(pictures(10), 8).shard(0, 3), "3 processes need a sample each.*a batch of 8 from 10.*has 2"),
        (lambda: Batches(pictures(2), 8, shuffle=False).shard(0, 3), "3 processes need a sample each.*has 2"),
        (lambda: Batches(pictures(8), 4).shard(2, 2), "0 ≤ rank < ranks; got rank=2, ranks=2"),
        (lambda: Batches(pictures(8), 4).shard(-1, 2), "got rank=-1, ranks=2"),
        (lambda: Batches(pictures(8), 4).shard(0, 5), "5 processes need a sample each.*has 4"),
        (lambda: Batches(pictures(8), 4).epoch(0, 3), r"start in 0\.\.2; got 3"),
        (lambda: Batches(pictures(8), 4).epoch(0, -1), r"start in 0\.\.2; got -1"),
        (
            lambda: Batches(Labelled(torch.zeros(8, 2), torch.zeros(8).long()), 4, augment=flip()),
            r"images \(n, channels, height, width\) only; got samples of shape \(8, 2\)",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line_before_the_first_batch(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
