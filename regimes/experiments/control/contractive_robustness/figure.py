"""Figure: accuracy against the size of changes, certified and under attack, with the counts behind each."""

from typing import TYPE_CHECKING, Any

from regimes.experiments.control.contractive_robustness.config import CONTRACTIVE, DEEL, PLAIN
from regimes.lab import figures
from regimes.lab.numbers import each, known, mean, means

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

NAMES = {CONTRACTIVE: "contractive", PLAIN: "plain residual", DEEL: "deel-torchlip"}
SHOWN = {"digits": "digits", "mnist": "MNIST", "cifar10": "CIFAR-10, reduced: small net, few epochs"}
KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("certified", "certified", {"linestyle": "-"}),
    ("attacked", "attacked", {"linestyle": "--"}),
    ("certified_part", "certified *", {"linestyle": ":", "linewidth": 1.0}),
)


def draw(rows: "DataFrame") -> "Figure":
    """Accuracy against ε: certified and under attack, a panel for each data set."""
    sets = list(dict.fromkeys(rows.dataset))
    made, panels = figures.figure(1, len(sets), width=figures.DOUBLE, height=3.9, squeeze=False, sharey=True)
    with figures.style():
        for ax, dataset in zip(panels[0], sets, strict=True):
            for number, (net, name) in enumerate(NAMES.items()):
                some: Any = rows[(rows.dataset == dataset) & (rows.net == net)]
                if not len(some):
                    continue
                clean = known({0.0: mean(some[some.epsilon == some.epsilon.min()].clean)})
                for column, words, look in KINDS[:2]:
                    values = each(some, "epsilon", lambda group, column=column: mean(group[column]))
                    start = clean if column == "certified" else {}
                    figures.curve(ax, start | values, number=number, label=f"{name}, {words}", **look)
                column, words, look = KINDS[2]
                same = means(some.groupby("epsilon")[column])
                color = figures.PALETTE[number]
                ax.plot(same.index, same, color=color, label=f"{name}, {words}", **look)
            ax.set(xlabel="ε, Euclidean, images in [0, 1]", title=SHOWN[dataset].partition(":")[0], ylim=(-0.03, 1.03))
        panels[0][0].set_ylabel("accuracy")
        figures.legend(made, *panels[0], ncols=len(set(rows.net)))
        words = (
            "Certified: of all test images, at ε = 0 their clean accuracy. Attacked and *: of so many of them alone, "
        )
        words += "where no attack can come below the certificate of its net. " + " ".join(_counted(rows, sets))
        figures.explain(made, words)
    return made


def _counted(rows: "DataFrame", sets: list[str]) -> list[str]:
    """How many images and seeds each data set has, and by that what its bands are."""
    lines = []
    for dataset in sets:
        some: Any = rows[rows.dataset == dataset]
        seeds = {NAMES[net]: int(own.seed.nunique()) for net, own in some.groupby("net", sort=False)}
        told = ", ".join(f"{name} {count}" for name, count in seeds.items())
        images = f"{some.images.max():,} test images, {some.attacked_images.max():,} attacked"
        bands = figures.intervals("bands", max(seeds.values()))
        lines.append(f"{SHOWN[dataset].partition(':')[0]}: {images}; seeds: {told}; {bands}.")
    return lines
