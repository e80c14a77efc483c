"""A net is trained, its certificates are counted on all test images, and some of these are attacked.

Images have values from 0 to 1 and no other normalisation: ε is in these units. 1-Lipschitz nets minimise the margin
cross-entropy of `margin_cross_entropy`; the plain net the cross-entropy, and it stops at the first look at which its
validation accuracy is `enough`, so that clean accuracies are comparable. No choice is made on test images.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from regimes.conventions import generator
from regimes.data.augment import compose, flip, random_crop
from regimes.data.batches import Batches
from regimes.data.classification import Classification, classification
from regimes.data.digest import digest
from regimes.experiments.control.contractive_robustness.attacks import smallest_changes
from regimes.experiments.control.contractive_robustness.config import CONTRACTIVE, DEEL, PLAIN, Config, Task
from regimes.experiments.control.contractive_robustness.nets import build, fixed, need
from regimes.lab.config import dump
from regimes.models.initialise import initialise, orthogonal
from regimes.models.lipschitz import certified_radius, lipschitz_bound, margin_cross_entropy
from regimes.models.residual import parameter_count
from regimes.modules.modes import eval_mode
from regimes.streams import Robust
from regimes.threads import threads_for
from regimes.training.assemble import training_work
from regimes.training.loop import Training, descend
from regimes.training.objectives import Plain
from regimes.training.unfinished import Unfinished

CHUNK = 500  # images at once
SIDE_BY_SIDE = 500  # images attacked together
_PLAN = ("net", "seeds", "deel_seeds", "epsilon", "attacked")  # what does not change a training


def measure(config: Config, points: list[dict[str, Any]], unfinished: Path | None = None) -> list[list[dict[str, Any]]]:
    """Of each net a row for each ε; unfinished: folder of what a training goes on from where it was stopped."""
    if config.attack:
        need("foolbox")
    return [
        _run(config, point["dataset"], point["net"], point["seed"], None if unfinished is None else unfinished / name)
        for point in points
        for name in [f"{point['dataset']}-{point['net']}-{point['seed']}"]
    ]


def _run(config: Config, dataset: str, name: str, seed: int, folder: Path | None) -> list[dict[str, Any]]:
    task = config.of(dataset)
    parts = classification(
        dataset,
        train_size=task.train_size,
        validation=task.validation,
        test_size=task.test_size,
        seed=seed,
        data_dir=config.data_dir,
    )
    mean, deviation = torch.zeros_like(parts.normalise.mean), torch.ones_like(parts.normalise.deviation)
    parts = parts._replace(normalise=parts.normalise._replace(mean=mean, deviation=deviation))
    net = start(name, task, parts, seed)
    steps = train(name, net, task, parts, seed, folder)
    return look(fixed(net), task, config, parts, steps, attacked(task, len(parts.test.labels), seed))


def start(name: str, task: Task, parts: Classification, seed: int) -> nn.Module:
    """A net with fresh weights: orthogonal ones for contractive steps; the others as torch and deel-torchlip draw them.

    (By He's law, without a normalisation, the plain net learned all training images and 95.7 % of the validation ones.)
    """
    draw = generator(seed, Robust.WEIGHTS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=draw)))
        net = build(name, task, parts.shape, parts.classes)
    return initialise(net, orthogonal, generator=generator(seed, Robust.WEIGHTS)) if name == CONTRACTIVE else net


def train(
    name: str, net: nn.Module, task: Task, parts: Classification, seed: int, folder: Path | None = None
) -> dict[str, float]:
    """Adam with a half cosine; how many steps there were, and the epoch in which they ended."""
    risk = cross_entropy if name == PLAIN else margin_cross_entropy(task.offset, 1.0, task.temperature)
    optimiser = Adam(net.parameters(), task.plain_lr if name == PLAIN else task.lr)
    augment = compose(random_crop(4), flip()) if task.augment else None
    batches = Batches(parts.train, task.batch, seed=seed, normalise=parts.normalise, augment=augment)
    epochs = task.deel_epochs if name == DEEL else task.epochs
    training = Training(net, Plain(risk), optimiser, CosineAnnealingLR(optimiser, epochs))
    settings = {key: value for key, value in dump(task).items() if key not in _PLAN}
    whose = {} if folder is None else {**settings, "net": name, "seed": seed, "data": digest([parts.train])}
    kept = Unfinished(folder, whose, [training])
    done = kept.take_up() or [0, False]
    with threads_for(training_work(net, batches)), kept.watched(lambda: done) as stepped:
        for _ in () if done[1] else descend(training, batches, epochs=epochs):
            done[0] += 1
            if name == PLAIN and done[0] % task.look_every == 0:
                done[1] = _accuracy(net, parts) >= task.enough
            stepped()
            if done[1]:
                break
    return {"steps": float(done[0]), "epochs": done[0] / len(batches)}


@torch.no_grad()
def _accuracy(net: nn.Module, parts: Classification) -> float:
    """On validation images."""
    assert parts.validation is not None
    with eval_mode(net):
        outputs = torch.cat([net(parts.normalise(x)) for x in parts.validation.x.split(CHUNK)])
    return float((outputs.argmax(1) == parts.validation.labels).double().mean())


def attacked(task: Task, images: int, seed: int) -> Int[Tensor, " attacked"]:
    """Which test images are attacked: drawn by the seed, the same for all nets."""
    return torch.randperm(images, generator=generator(seed, Robust.ATTACKED))[: task.attacked]


def look(
    net: nn.Module,
    task: Task,
    config: Config,
    parts: Classification,
    steps: dict[str, float],
    some: Int[Tensor, " attacked"],
) -> list[dict[str, Any]]:
    """A row for each ε; `some` of the images are attacked.

    clean, certified: shares of all test images that are right, and right with a radius of at least ε.
    certified_part, attacked: on the images that were attacked, shares that are certified, and that are right and
    withstood every attack up to ε. broken: images that were certified for ε and broken by a change of at most ε.
    """
    x, labels = parts.normalise(parts.test.x), parts.test.labels
    with torch.no_grad():
        chosen = torch.cat([net.double()(part.double()).argmax(1) for part in x.split(CHUNK)])
    right, radius = chosen == labels, certified_radius(net, x, batch=CHUNK)
    constant = lipschitz_bound(net)
    net.float()
    changes = [
        smallest_changes(net, images, own, task.epsilon, config.attack, config.steps)
        for images, own in zip(x[some].split(SIDE_BY_SIDE), labels[some].split(SIDE_BY_SIDE), strict=True)
    ]
    change = torch.cat(changes)
    shared = {
        "images": len(labels),
        "attacked_images": len(change),
        "lipschitz": constant,
        "weights": parameter_count(net),
        "clean": float(right.double().mean()),
        "median_radius": float(torch.where(right, radius, 0.0).median()),
        **steps,
    }
    rows = []
    for epsilon in task.epsilon:
        certified = right & (radius >= epsilon)
        rows.append(
            {
                "epsilon": epsilon,
                "certified": float(certified.double().mean()),
                "certified_part": float(certified[some].double().mean()),
                "attacked": float((change > epsilon).double().mean()),
                "broken": int((certified[some] & (change <= epsilon)).sum()),
                **shared,
            }
        )
    return rows
