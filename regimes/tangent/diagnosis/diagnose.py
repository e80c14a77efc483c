"""The door: was the training that led from one state of a network to another lazy?"""

from collections.abc import Callable, Collection
from functools import cache
from math import inf
from typing import Any, NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from regimes.checks import count, finite, function, kind
from regimes.checks import generator as require_generator
from regimes.modules.targets import Risk
from regimes.tangent.criterion import lazy_criterion
from regimes.tangent.diagnosis import features, gaps, kernels
from regimes.tangent.diagnosis.judgement import Limits, RunJudged, judge_run, require_limits
from regimes.tangent.diagnosis.pair import CALLER, Pair, make_pair
from regimes.tangent.diagnosis.readings import HALVES, NotMeasured, Reading, of_points, read
from regimes.tangent.diagnosis.tangent_run import TangentRun
from regimes.tangent.diagnosis.targets import Targets, constant_risk, require_mean, targets_of
from regimes.tangent.model import require_samples
from regimes.tangent.operator import MEMORY

OPTIONAL = {"weight_motion", "tangent_disagreement", "kernel_drift", "kernel_cka", "alignment_start", "alignment_end",
            "activation_flips", "richness_start", "richness_end", "kappa", "layers"}  # fmt: skip
KAPPA_ROOM = 2 * 10**6  # points × outputs × parameters for the bounds of κ
KAPPA_POINTS = 10
KAPPA_STEPS = 20
BATCH_NORM = (
    "Batch norms: outputs and their derivatives with the statistics of the points as one batch; kernels, flips and "
    "richness with these statistics held fixed."
)
PROBED = (
    f"Beyond {kernels.EXACT:,} points kernels are not formed: drift and alignments are estimates of the full, centred "
    "kernel by random probes, with intervals over these."
)
SURE = 2.0  # standard errors by which the risk has to fall


class Diagnosis(NamedTuple):
    """What was measured of a training run, and the verdict on it.

    readings: by name, each with its interval, its cost and, where it is missing, the reason. layers: each by itself.
    notes: what has to be known of how it was measured.
    """

    judged: RunJudged
    readings: dict[str, Reading]
    layers: list[gaps.Layer]
    points: int
    parameters: int
    notes: list[str]

    @property
    def verdict(self) -> str:
        """ "lazy", "not lazy" or "cannot tell"."""
        return self.judged.verdict

    def __str__(self) -> str:
        width = max(map(len, self.readings))
        lines = [f"  {name.replace('_', ' '):<{width}}  {reading}" for name, reading in self.readings.items()]
        return "\n".join([self.judged.words, *lines, *(f"  {note}" for note in self.notes)])


def diagnose(
    model_0: nn.Module,
    model_T: nn.Module,
    x: Shaped[Tensor, "n *sample"],
    y: Shaped[Tensor, "n *targets"],
    *,
    risk: Risk | None = None,
    held_out: Shaped[Tensor, "m *sample"] | None = None,
    points: int = 200,
    kernel_points: int = 100,
    decay: bool = True,
    omit: Collection[str] = (),
    limits: Limits | None = None,
    generator: torch.Generator | None = None,
    memory: int = MEMORY,
) -> Diagnosis:
    """Was this training lazy? The network before and after it, and the samples that it was trained on.

    y: class labels (n,), for cross-entropy, or numbers of the shape of the outputs, for the half mean square risk.
    risk: the loss of a training by another one, a function of (outputs, y) with one number, a mean over samples, such
    as torch's binary_cross_entropy_with_logits. Then y is whatever it takes, with an entry for each sample along its
    first axis, and passed to it as it is; outputs come as (n, k), in the precision of the model, half precision as
    float32. The verdict then asks for a fall of the risk by a share of its size at the start, as if its least were 0.
    held_out: inputs that were not trained on, for the tangent model that is trained to the same loss. points,
    kernel_points: how many samples outputs and kernels are measured on, drawn by `generator` (None: seed 0); intervals
    are over halves of them. decay: whether weight decay may have shrunk the weights; then the network may also be
    straight about its start times the factors by which they have shrunk. omit: names of readings that are not needed.

    The verdict rests on the linearisation gap ‖f_T − f_0 − J_0(w_T − w_0)‖ / ‖f_T − f_0‖: lazy below 0.1, not lazy
    above, cannot tell where its interval holds 0.1, where the risk has not fallen surely, and where nothing has moved.
    Both models have to be in eval mode. With batch norms outputs are those of the points as one batch, as in training.
    ValueError: broken models (NaN, 16 bits, samples that mix, train mode), two models that are not one network, and a
    risk that does not take these outputs and y, is no single number, not finite, or no mean over samples.
    Source: [ChizatOyallonBach2019] for the gap; the limits are ours (see Limits).
    """
    how: dict[str, Any] = {"risk": risk, "held_out": held_out, "points": points, "kernel_points": kernel_points}
    how |= {"decay": decay, "omit": omit, "limits": limits, "generator": generator, "memory": memory}
    return checked(model_0, model_T, x, y, **how)()


def checked(
    model_0: nn.Module,
    model_T: nn.Module,
    x: Shaped[Tensor, "n *sample"],
    y: Shaped[Tensor, "n *targets"],
    *,
    risk: Risk | None = None,
    held_out: Shaped[Tensor, "m *sample"] | None,
    points: int,
    kernel_points: int,
    decay: bool,
    omit: Collection[str] = (),
    limits: Limits | None = None,
    generator: torch.Generator | None = None,
    memory: int = MEMORY,
) -> Callable[[], Diagnosis]:
    """What measures the same, once all that `diagnose` is given has been checked: the outputs are all it has taken.

    ValueError as in `diagnose`, before anything is measured.
    """
    count(CALLER, "points", points)
    count(CALLER, "kernel_points", kernel_points, 2)
    kind(CALLER, "decay", decay, bool, "True or False")
    if isinstance(omit, str) or set(omit) - OPTIONAL:
        raise ValueError(f"{CALLER} needs omit as names of {', '.join(sorted(OPTIONAL))}; got {omit!r}.")
    limits = Limits() if limits is None else limits
    require_limits(CALLER, limits)
    source = torch.Generator().manual_seed(0) if generator is None else require_generator(CALLER, generator)
    function(CALLER, risk=risk)
    kind(CALLER, "y", y, Tensor, "a tensor of labels or targets")
    require_samples(x, CALLER, "x")
    if y.ndim < 1 or len(x) != len(y):
        raise ValueError(f"{CALLER} needs a target for each of the {len(x)} samples; got {tuple(y.shape)}.")
    finite(CALLER, x=x)
    chosen = torch.arange(len(x))
    if points < len(x):
        chosen = torch.randperm(len(x), generator=source, device=source.device)[:points].cpu()
    pair = make_pair(model_0, model_T, x[chosen.to(x.device)])
    chosen = chosen.to(pair.x.device)
    held_out = None if held_out is None else _like(x, held_out)
    outputs = gaps.Outputs(pair.outputs(pair.w_0).double(), pair.outputs(pair.w_T, end=True).double())
    finite(CALLER, **{"outputs of model_0": outputs.f_0, "outputs of model_T": outputs.f_T})
    targets = targets_of(y.to(pair.x.device), outputs.f_T.shape[1], risk, pair.dtype)
    some = targets.of(chosen)
    require_mean(some, model_0=outputs.f_0, model_T=outputs.f_T)
    run = TangentRun(pair, x.detach(), targets, held_out, memory)
    return lambda: _measured(pair, run, outputs, some, kernel_points, decay, omit, limits, source, memory)


def _measured(
    pair: Pair, run: TangentRun, outputs: gaps.Outputs, targets: Targets, kernel_points: int, decay: bool,
    omit: Collection[str], limits: Limits, source: torch.Generator, memory: int,
) -> Diagnosis:  # fmt: skip
    n, k = outputs.f_T.shape
    before, after = targets.risks(outputs.f_0).detach(), targets.risks(outputs.f_T).detach()
    moved = bool(outputs.change.sum() > 0)
    found: dict[str, Reading] = {}
    least = 0.0 if targets.own is None else -inf

    def take(name: str, measure: Callable[[], Reading]) -> None:
        found[name] = Reading(None, reason="left out, as asked") if name in omit else read(measure)

    def gap(measure: Callable[..., Reading]) -> Reading:
        if not moved:
            raise NotMeasured("the outputs on the points have not changed")
        return measure(pair, outputs, source)

    def mean(risks: Tensor) -> Reading:
        return of_points(lambda some: risks[some].mean(), n, source, 1, low=least, halves=HALVES)

    take("weight_motion", lambda: gaps.weights_moved(pair))
    take("risk_start", lambda: mean(before))
    take("risk_end", lambda: mean(after))
    take("linearisation_gap", lambda: gap(gaps.linearisation_gap))
    if decay:
        take("gap_after_decay", lambda: gap(gaps.gap_after_decay))
    take("tangent_disagreement", lambda: run.disagreement(k, source))
    both = cache(lambda: kernels.kernels(pair, kernel_points, memory))
    aligned = lambda kernel: kernels.target_alignment(kernel, targets.values, both().cost, source)  # noqa: E731
    if min(kernel_points, n) <= kernels.EXACT:
        take("kernel_drift", lambda: kernels.drift(both(), source))
        take("kernel_cka", lambda: kernels.similarity(both(), source))
        take("alignment_start", lambda: aligned(both().start))
        take("alignment_end", lambda: aligned(both().end))
    else:
        probed = cache(lambda: kernels.probed(pair, kernel_points, targets.values, source, memory))
        for name in ("kernel_drift", "kernel_cka", "alignment_start", "alignment_end"):
            take(name, lambda name=name: kernels.estimated(name, probed()))
    seen = cache(lambda: features.activities(pair, k))
    take("activation_flips", lambda: features.flips(seen(), source))
    take("richness_start", lambda: features.richness(seen(), outputs.f_0, source))
    take("richness_end", lambda: features.richness(seen(), outputs.f_T, source, end=True))
    take("kappa", lambda: _kappa(pair, targets, source))
    layers = gaps.layers(pair, outputs) if moved and "layers" not in omit else []
    alone = {layer.name: layer.gap for layer in layers if layer.gap is not None}
    judged = judge_run(found, n, _improvement(pair, before, after, targets, outputs, moved), limits, alone)
    size = sum(value.numel() for value in pair.w_0.values())
    notes = [BATCH_NORM] * pair.normed + [PROBED] * (min(kernel_points, n) > kernels.EXACT)
    return Diagnosis(judged, found, layers, n, size, notes)


def _kappa(pair: Pair, targets: Targets, source: torch.Generator) -> Reading:
    """κ of the start on a few points; low and high are its bounds, of all points and not over subsamples."""
    if targets.own is not None:
        raise NotMeasured("the least value of this risk may not be 0: ask regimes.lazy_criterion")
    if pair.normed:
        raise NotMeasured("batch norm mixes samples")
    size = sum(value.numel() for value in pair.w_0.values())
    n = min(len(pair.x), KAPPA_POINTS)
    if n * targets.values.shape[1] * size > KAPPA_ROOM:
        raise NotMeasured(f"{size:,} parameters × {n} points are too many here: ask regimes.lazy_criterion")
    how: dict[str, Any] = {"generator": source, "starts": 1, "iterations": KAPPA_STEPS}
    if targets.labels is None:
        how["y"] = targets.values[:n].to(next(iter(pair.w_0.values())).dtype)
    else:
        labels = targets.labels[:n]
        how["risk"] = lambda outputs: nn.functional.cross_entropy(outputs, labels)
    found = lazy_criterion(pair.start, pair.x[:n], **how)
    return Reading(found.estimate, found.low, found.high)


def _improvement(
    pair: Pair, before: Tensor, after: Tensor, targets: Targets, outputs: gaps.Outputs, moved: bool
) -> str:
    """Why there is no training to judge; "" if the risk, or with labels the errors, have surely fallen enough."""
    if all(not bool(value.any()) for value in pair.moved.values()):
        return "the weights have not moved, so there was no training"
    if not moved:
        return "the outputs on these points have not changed"
    if targets.alike:
        return "the targets are the same at all points, so no fit to them can be told"
    constant = constant_risk(targets, *outputs)
    n, falls = len(before), [before - after]
    right = [(f.argmax(1) == targets.labels).double() for f in outputs] if targets.labels is not None else []
    if right:
        falls.append(right[1] - right[0])
    advice = "pass the samples and targets that the network was trained on"
    if targets.own is None and targets.labels is None:
        advice += ", and risk= (in Python) if its loss was not the half square"
    fallen = [float(each.mean()) > SURE * float(each.std(unbiased=False)) / max(n - 1, 1) ** 0.5 for each in falls]
    if not any(fallen):
        return (
            f"the risk on these samples has not fallen surely (from {float(before.mean()):.3g} to "
            f"{float(after.mean()):.3g}); {advice}"
        )
    majority = 0.0 if targets.labels is None else float(targets.values.mean(0).max())
    more_right = bool(right) and float(right[1].mean()) > majority
    if float(after.mean()) >= constant and not more_right:
        return (
            f"the network fits these targets no better than a constant does (risk {float(after.mean()):.3g} against "
            f"{constant:.3g}); {advice}"
        )
    return ""


def _like(x: Tensor, held_out: Tensor) -> Tensor:
    require_samples(held_out, CALLER, "held_out")
    if held_out.shape[1:] != x.shape[1:]:
        raise ValueError(f"{CALLER} needs held_out of the shape of x; got {tuple(held_out.shape)}.")
    finite(CALLER, held_out=held_out)
    return held_out.detach()
