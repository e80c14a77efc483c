"""Batches of many members drawn at once are those of each member alone, bit for bit."""

import pytest
import torch

from regimes.data.augment import compose, cutout, flip, random_crop
from regimes.data.batches import Batches
from regimes.data.classification import Labelled, Normalise
from regimes.data.member_batches import MemberBatches


def pictures(seed, count=11):
    torch.manual_seed(seed)
    return Labelled(torch.randint(0, 256, (count, 3, 6, 6), dtype=torch.uint8), torch.randint(0, 10, (count,)))


def norm(shift=0.0):
    return Normalise(torch.tensor([0.5, 0.4, 0.3]) + shift, torch.tensor([0.2, 0.3, 0.4]), 255)


def changes():
    return compose(random_crop(2), flip(), cutout(2))


ONE = pictures(9)
KINDS = {
    "each its own samples": lambda seed: Batches(pictures(seed), 4, seed=seed, normalise=norm(), augment=changes()),
    "all the same samples": lambda seed: Batches(ONE, 4, seed=seed, normalise=norm(), augment=changes()),
    "channels last": lambda seed: Batches(ONE, 4, seed=seed, normalise=norm(), channels_last=True),
    "plain": lambda seed: Batches(pictures(seed), 4, seed=seed),
    "in stored order": lambda seed: Batches(pictures(seed), 4, seed=seed, shuffle=False),
    "unlike normalisations": lambda seed: Batches(pictures(seed), 4, seed=seed, normalise=norm(seed / 10)),
    "functions of their own": lambda seed: Batches(pictures(seed), 4, seed=seed, normalise=lambda x: x / (1.0 + seed)),
    "some augmented": lambda seed: Batches(pictures(seed), 4, seed=seed, augment=[None, flip(), random_crop(1)][seed]),
    "none augmented but one": lambda seed: Batches(ONE, 4, seed=seed, augment=[None, None, flip(0.9)][seed]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("epoch", "start"), [(0, 0), (3, 1)])
def test_they_are_the_members_own_batches(kind, epoch, start):
    members = [KINDS[kind](seed) for seed in range(3)]
    joined = MemberBatches(members)
    assert len(joined) == len(members[0]) == 3
    found = list(joined.epoch(epoch, start))
    assert len(found) == 3 - start
    for step, (x, labels) in enumerate(found, start):
        own = [list(member.epoch(epoch))[step] for member in members]
        assert torch.equal(x, torch.stack([one[0] for one in own]))
        assert torch.equal(labels, torch.stack([one[1] for one in own]))


def test_shared_samples_are_not_copied():
    assert MemberBatches([KINDS["all the same samples"](seed) for seed in range(3)]).x is ONE.x


def test_targets_that_are_numbers_keep_their_shape():
    samples = Labelled(torch.randn(7, 2), torch.randn(7, 3))
    ((x, y),) = MemberBatches([Batches(samples, 7, seed=seed) for seed in range(2)]).epoch(0)
    assert (x.shape, y.shape) == ((2, 7, 2), (2, 7, 3))


def test_an_augmentation_is_made_once_and_drawn_for_all_members_in_one_launch():
    assert changes() is changes()
    assert random_crop(1) is not random_crop(2)
    members = [KINDS["each its own samples"](seed) for seed in range(3)]
    calls = []
    counted = members[0].augment._replace(apply=lambda x, numbers: calls.append(len(x)) or x)
    for member in members:
        member.augment = counted
    next(MemberBatches(members).epoch(0))
    assert calls == [12]


@pytest.mark.parametrize(
    "members",
    [
        [Batches(pictures(0), 4), Batches(pictures(1), 5)],
        [Batches(pictures(0), 4), Batches(pictures(1, 12), 4)],
        [Batches(pictures(0), 4).shard(0, 2), Batches(pictures(1), 4).shard(0, 2)],
        [],
    ],
    ids=["sizes", "samples", "parts", "none"],
)
def test_unlike_members_are_refused(members):
    with pytest.raises(ValueError, match="MemberBatches needs"):
        MemberBatches(members)
