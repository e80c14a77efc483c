"""How often is `diagnose` right about nets whose regime is known by construction?

Thirteen kinds of nets, see `nets`: eight are lazy by theory and five are not. A hundred nets of each, 1,300 in all,
with weights and samples drawn afresh. Nets of a kind are trained as ensembles by full-batch gradient descent until the
training loss has fallen by a factor of ten. Then each is judged by `regimes.diagnose` from its two states and
its training samples, with the limits that `diagnose` has for everybody. "Cannot tell" counts as not right, and not as
wrong.

Predictions. The goal was set before any net was measured: 95 % of the verdicts right, with the whole of Wilson's 95 %
interval above. The limits of `diagnose` were set before, too. At most 5 % wrong was a second prediction; as the first
implies it, that share is only shown beside. A pilot with other seeds (from 1000 on) chose widths and steps at which the
nets train; it changed no limit.
It chose the target, too: a first one, even in the inputs, was hard for tanh nets, which are odd, so that they had not
trained. Regimes in between have no known truth and are left out, so the rate is one for clear cases.

All kinds of one seed have the same samples, and those of one architecture the same first weights. So the interval is
over the seeds, each with the share of its thirteen nets. A first run with twenty seeds had no wrong verdict, but twenty
seeds without a mistake leave the share open from 0.84 on, and it takes 73 to prove 95 %: so there are a hundred, those
twenty among them. The kinds themselves are as they were picked, and no sample of others.
"""

from typing import TYPE_CHECKING

from regimes.experiments.lazy.diagnose_error_rate.config import Config as Config
from regimes.experiments.lazy.diagnose_error_rate.nets import KINDS
from regimes.experiments.lazy.diagnose_error_rate.runs import measure as measure
from regimes.lab import figures
from regimes.lab.averages import least, middle, most
from regimes.lab.numbers import count, judged, share
from regimes.lab.report import Interval, Judgement, Prediction, Statement
from regimes.tangent.diagnosis.judgement import Limits

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

RIGHT, WRONG = "share of right verdicts", "share of wrong verdicts"
STATEMENT = Statement(
    title="diagnose tells lazy nets from others",
    claim="Of nets that are lazy, or not, by construction, diagnose judges at least 95 % rightly.",
    source="[ChizatOyallonBach2019] for what lazy means",
    predictions=(Prediction(RIGHT, Interval(0.95, 1.0), "chosen"),),
)
GRID = ("kind", "seed")
BATCHED = ("seed",)


def judge(rows: "DataFrame") -> Judgement:
    """The share of right verdicts over all nets; beside it that of wrong ones, and of the lazy and the other nets."""
    found = {RIGHT: share(rows.right, groups=rows.seed)}
    merits = {
        WRONG: share(rows.wrong, groups=rows.seed),
        "nets": float(len(rows)),
        "right, lazy nets": share(rows.right[rows.truth > 0]),
        "right, other nets": share(rows.right[rows.truth < 0]),
        "cannot tell": share(rows.said == 0, rows.said),
    }
    return judged(STATEMENT, found, merits)


def table(rows: "DataFrame") -> "DataFrame":
    """Of each kind: how many nets, what was said of them, their gaps, and how far they were trained."""
    import pandas

    lines = []
    for kind, some in rows.groupby("kind", sort=False):
        lines.append(
            {
                "kind": kind,
                "regime": "lazy" if KINDS[str(kind)].lazy else "not lazy",
                "nets": len(some),
                "right": count(some.right, some.right),
                "wrong": count(some.wrong, some.wrong),
                "gap, median": middle(some.gap),
                "least": least(some.gap),
                "largest": most(some.gap),
                "‖w − w₀‖/‖w₀‖": middle(some.motion),
                "loss left": middle(some.ratio),
            }
        )
    return pandas.DataFrame(lines)


def _shown(kind: str) -> str:
    return kind.replace("alpha ", "α = ").replace("1/sqrt(m)", "1/√m")


def draw(rows: "DataFrame") -> "Figure":
    """The gap of every net, by kind, beside the limit; colours are the regimes by construction."""
    made, ax = figures.figure(width=figures.DOUBLE, height=4.2)
    kinds = [kind for kind in KINDS if kind in set(rows.kind)]
    with figures.style():
        for place, kind in enumerate(kinds):
            some = rows[rows.kind == kind]
            colour = figures.PALETTE[0 if KINDS[kind].lazy else 1]
            spots = [place + 0.3 * (2 * rank / max(len(some) - 1, 1) - 1) for rank in range(len(some))]
            for right, face in ((1.0, colour), (0.0, "white")):
                shown = [at for at, value in zip(spots, some.right, strict=True) if value == right]
                gaps = some.gap[some.right == right].clip(lower=1e-6)
                ax.plot(gaps, shown, "o", ms=4, mfc=face, mec=colour, mew=0.9)
        limit = Limits().linearisation_gap
        ax.axvline(limit, color=figures.GREY, ls="--", lw=1.0)
        ax.set_yticks(
            range(len(kinds)), [f"{_shown(kind)} ({'lazy' if KINDS[kind].lazy else 'not lazy'})" for kind in kinds]
        )
        ax.set(xscale="log", xlabel="linearisation gap, weight decay set apart", ylim=(len(kinds) - 0.4, -0.6))
        found = share(rows.right, groups=rows.seed)
        ax.set_title(
            "" if found is None else f"{int(rows.right.sum())} of {len(rows)} verdicts right: {found.estimate}"
        )
        figures.explain(
            made,
            "One mark a net; blue: lazy by construction, orange: not lazy; filled: judged rightly. Dashed: the limit, "
            f"{limit:g}. 1e-6: that or less.",
        )
    return made
