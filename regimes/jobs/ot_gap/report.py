"""From measured figures to the table, side by side, and result.json."""

from collections.abc import Callable, Sequence
from typing import Any

from regimes.jobs.ot_gap.verdict import Figures, judge

Row = tuple[str, Callable[[Figures], str]]


def table(found: Sequence[Figures]) -> list[dict[str, str]]:
    """One row a quantity and one column a map."""
    return [
        {"quantity": name, **{figures["label"]: text(figures) for figures in found}}
        for name, text in ROWS
        if any(text(figures) for figures in found)
    ]


def result(found: Sequence[Figures]) -> dict[str, Any]:
    """The content of result.json: one entry a map, that is a checkpoint and a stage of it."""
    entries = []
    for figures in found:
        verdict = judge(figures)
        entries.append(
            {
                **figures,
                "verdict": verdict.verdict,
                "words": verdict.words,
                "exact_evidence": verdict.exact,
                "infinitesimal_evidence": verdict.infinitesimal,
            }
        )
    return {"checkpoints": entries, "verdict": {figures["label"]: judge(figures).verdict for figures in found}}


def words(found: Sequence[Figures]) -> list[str]:
    """A sentence a map, and what its tests could have seen; a gap that is there needs no power to be believed."""
    said = []
    for figures in found:
        verdict = judge(figures)
        said.append(f"{figures['label']}: {verdict.words}.")
        if figures.get("power_line") and verdict.exact != "gap":
            said.append(f"{figures['label']}: {figures['power_line']}.")
    return said


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}g}"


def _with_error(value: float | None, error: float | None) -> str:
    return "" if value is None else f"{value:.3g}" + (f" ± {error:.1g}" if error is not None else "")


def _between(certified: float | None, low: float, high: float) -> str:
    return f"{certified:.6g}" if certified is not None else f"in [{low:.6g}, {high:.6g}]"


def _relative(figures: Figures) -> str:
    cost = figures["cost_network"] or 1.0
    low, high = figures["gap_low"] / cost, figures["gap_high"] / cost
    return _between(figures["relative_gap"], low, high)


def _certificate(figures: Figures) -> str:
    if not figures["certified"]:
        return "none: stopped early"
    left = figures["cost_ot"] - figures["dual_value"]
    return f"violated by {figures['max_violation']:.1g} at most, primal − dual {left:.1g}"


def _cycle(figures: Figures) -> str:
    if figures["worst_cycle"] <= 0:
        return "none" if figures["certified"] else "none found"
    return f"{figures['worst_cycle']:.4g} over {figures['worst_cycle_length']} points"


def _list(values: Sequence[float | None]) -> str:
    return " ".join("-" if value is None else f"{value:.2g}" for value in values)


ROWS: list[Row] = [
    ("points × features", lambda f: f"{f['points']} × {f['dim']}"),
    ("accuracy on these points", lambda f: _number(f["accuracy"])),
    ("cost of the network's pairing", lambda f: f"{f['cost_network']:.6g}"),
    ("exact OT cost", lambda f: _between(f["cost_ot"], f["dual_value"], f["cost_ot_high"])),
    ("gap", lambda f: _between(f["gap"], f["gap_low"], f["gap_high"])),
    ("relative gap", _relative),
    ("certificate", _certificate),
    ("cycle that saves most", _cycle),
    (
        "Brenier asymmetry, all directions",
        lambda f: _with_error(f["brenier_asymmetry"], f["brenier_asymmetry_se"]),
    ),
    ("Brenier asymmetry, image of encoder", lambda f: _with_error(f["image_asymmetry"], f["image_asymmetry_se"])),
    ("least eigenvalue, all directions", lambda f: _number(f["min_eigenvalue"], 3)),
    ("least eigenvalue, image of encoder", lambda f: _number(f["image_min_eigenvalue"], 3)),
    ("straightness", lambda f: _number(f["straightness"])),
    ("action", lambda f: _number(f["action"])),
    ("action / OT cost", lambda f: _number(f["action_over_cost_ot"])),
    ("network's cost / OT cost", lambda f: _number(f["cost_network_over_cost_ot"], 7)),
    ("stretch of T, of its inverse", lambda f: f"{f['lipschitz']:.3g}, {f['inverse_lipschitz']:.3g}"),
    ("mean displacement a block", lambda f: _list(f["block_displacement"])),
    ("asymmetry a block", lambda f: _list(f["block_asymmetry"])),
    ("verdict", lambda f: judge(f).verdict),
]
