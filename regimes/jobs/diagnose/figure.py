"""The figure of one diagnosis: what decides against its limit, what stands beside it, and each layer by itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regimes.lab.figures import DOUBLE, GREY, PALETTE, explain, style
from regimes.tangent.diagnosis.judgement import Limits

Numbers = Mapping[str, Any]
FLOOR = 1e-6
LAYER_FLOOR = 1e-4  # what is smaller is drawn here
SHOWN = {  # with 0 for lazy and 1 or more for the opposite
    "linearisation_gap": "linearisation gap",
    "gap_after_decay": "gap, decay set apart",
    "tangent_disagreement": "distance from trained\ntangent model",
    "weight_motion": "weight motion",
    "kernel_drift": "kernel drift",
    "activation_flips": "activation flips",
    "kappa": "κ at the start",
}
TURNED = {
    "kernel_cka": "Θ before / after",
    "alignment": "kernel / targets",
    "richness": "richness D_LR",
}
COLOURS = {"lazy": PALETTE[0], "not lazy": PALETTE[1], "cannot tell": GREY}
MOST = 16  # layers


def draw(numbers: Numbers) -> Figure:
    """Three panels at the width of a page."""
    colour = COLOURS[numbers["verdict"]]
    with style():
        figure = Figure(figsize=(DOUBLE, 3.6), layout="constrained")
        axes = figure.subplots(1, 3, width_ratios=[1.25, 0.8, 1.25])
        _sizes(axes[0], numbers, colour)
        _directions(axes[1], numbers, colour)
        _layers(axes[2], numbers, colour)
        figure.suptitle(f"{numbers['verdict'].upper()}   {numbers['title']}", fontsize=10, color=colour, weight="bold")
        explain(
            figure,
            f"{numbers['points']} training samples; bars: 95 % intervals over half subsamples of them (κ: its bounds). "
            "(a) The filled mark decides, against the dashed limit; what is missing was not measured. (b) Open: before "
            "training, filled: after; D_LR is 0 for rich, 1 for lazy. (c) Motion of each layer, and the gap that "
            f"it makes alone (1e-4: that or less){_left_out(numbers)}.",
        )
    return figure


def _sizes(axis: Axes, numbers: Numbers, colour: str) -> None:
    rows = [(name, label) for name, label in SHOWN.items() if _known(numbers, name)]
    for place, (name, _) in enumerate(rows):
        reading, decides = numbers["readings"][name], name == numbers["deciding"]
        value = max(reading["value"], FLOOR)
        if reading["low"] is not None:
            ends = np.maximum([reading["low"], reading["high"]], FLOOR)
            axis.plot(ends, [place, place], color=colour if decides else GREY, lw=2.2 if decides else 1.2)
        face = colour if decides else "white"
        axis.plot(value, place, "o", ms=8 if decides else 5, mfc=face, mec=colour if decides else GREY)
    limit = Limits().linearisation_gap
    axis.axvline(limit, color="0.3", ls="--", lw=0.9)
    axis.annotate("limit of the gap", (limit, -0.75), fontsize=7, ha="left", va="center", xytext=(3, 0),
                  textcoords="offset points")  # fmt: skip
    axis.set_yticks(range(len(rows)), [label for _, label in rows])
    axis.set(xscale="log", xlabel="relative size", title="(a) how far from the start")
    axis.set_ylim(len(rows) - 0.4, -1.1)
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, limit / 10), max(1.5 * high, 2.0))


def _directions(axis: Axes, numbers: Numbers, colour: str) -> None:
    for place, name in enumerate(TURNED):
        for when, face in (("_start", "white"), ("_end", colour), ("", colour)):
            if _known(numbers, f"{name}{when}"):
                reading = numbers["readings"][f"{name}{when}"]
                shift = place + {"_start": -0.12, "_end": 0.12}.get(when, 0.0)
                if reading["low"] is not None:
                    axis.plot([reading["low"], reading["high"]], [shift, shift], color=GREY, lw=1.2)
                axis.plot(reading["value"], shift, "o", ms=5, mfc=face, mec=colour)
    axis.set_yticks(range(len(TURNED)), list(TURNED.values()))
    axis.set(xlabel="alignment, or D_LR", title="(b) which way it turned")
    axis.set_ylim(len(TURNED) - 0.4, -0.6)
    low, high = axis.get_xlim()
    axis.set_xlim(min(-0.05, low), max(1.05, high))


def _layers(axis: Axes, numbers: Numbers, colour: str) -> None:
    layers = sorted(numbers["layers"], key=lambda layer: -(layer["gap"] or 0.0))[:MOST]
    names = {layer["name"] for layer in layers}
    layers = [layer for layer in numbers["layers"] if layer["name"] in names]
    if not layers:
        axis.set_axis_off()
        return
    place = np.arange(len(layers))
    motion = [layer["relative_motion"] or np.nan for layer in layers]
    gap = [np.nan if layer["gap"] is None else max(layer["gap"], LAYER_FLOOR) for layer in layers]
    axis.plot(motion, place, "s", ms=4.5, mfc="white", mec=GREY, label="motion ‖Δw‖/‖w₀‖")
    axis.plot(gap, place, "o", ms=5, color=colour, label="gap by itself")
    axis.axvline(Limits().linearisation_gap, color="0.3", ls="--", lw=0.9)
    axis.set_yticks(place, [_short(layer["name"]) for layer in layers], fontsize=6.5 if len(layers) > 8 else 8)
    axis.set(xscale="log", xlabel="relative size", title="(c) layer by layer")
    axis.margins(x=0.08)
    axis.set_ylim(len(layers) - 0.4, -0.6)
    axis.legend(fontsize=7, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=1.8)


def _left_out(numbers: Numbers) -> str:
    more = len(numbers["layers"]) - MOST
    return f"; the {more} layers with the smallest gaps are left out" if more > 0 else ""


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"…{name[-21:]}"


def _known(numbers: Numbers, name: str) -> bool:
    return numbers["readings"].get(name, {}).get("value") is not None
