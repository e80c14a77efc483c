"""What a diagnosis says to people: its table, its sentences; and its plain numbers, from which both are made."""

from collections.abc import Mapping
from typing import Any

from regimes.lab.report import number
from regimes.tangent.diagnosis.diagnose import Diagnosis

Numbers = Mapping[str, Any]
LABELS = {
    "linearisation_gap": "linearisation gap ‖f_T − f_0 − J_0 Δw‖ / ‖f_T − f_0‖",
    "gap_after_decay": "the same, weight decay set apart",
    "tangent_disagreement": "distance from the trained tangent model, held out",
    "weight_motion": "weight motion ‖Δw‖ / ‖w_0‖",
    "kernel_drift": "kernel drift ‖Θ_T − Θ_0‖ / ‖Θ_0‖",
    "kernel_cka": "alignment of Θ_T with Θ_0 (CKA)",
    "alignment_start": "alignment of the kernel with the targets, before",
    "alignment_end": "the same, after",
    "activation_flips": "activations with another sign",
    "richness_start": "richness D_LR, before (0 rich, 1 lazy)",
    "richness_end": "the same, after",
    "kappa": "lazy criterion κ at the start",
    "risk_start": "risk, before",
    "risk_end": "risk, after",
}
MOST_LAYERS = 30


def plain(found: Diagnosis, **about: Any) -> dict[str, Any]:
    """The content of measurement.json."""
    judged = found.judged
    return {
        **about,
        "verdict": judged.verdict,
        "words": judged.words,
        "deciding": judged.deciding,
        "threshold": judged.threshold,
        "points": found.points,
        "parameters": found.parameters,
        "readings": {name: reading._asdict() for name, reading in found.readings.items()},
        "layers": [layer._asdict() for layer in found.layers],
        "notes": [*about.get("notes", []), *found.notes],
    }


def table(numbers: Numbers, *, slim: bool = False) -> list[dict[str, str]]:
    """One row a number, with its interval and cost; what was not measured says why (slim: not the cost)."""
    rows = []
    for name, label in LABELS.items():
        reading = numbers["readings"].get(name)
        if reading is None:
            continue
        row = {"number": label, "value": _value(reading), "95 % interval": _interval(reading)}
        if not slim:
            row |= {"seconds": f"{reading['seconds']:.2g}", "passes": str(reading["passes"] or "")}
        rows.append(row)
    return rows


def layer_table(numbers: Numbers) -> list[dict[str, str]]:
    """One row a layer: its motion, and the gap that it makes alone."""
    return [
        {
            "layer": layer["name"],
            "‖Δw‖": number(layer["motion"]),
            "‖Δw‖ / ‖w_0‖": "starts at 0" if layer["relative_motion"] is None else number(layer["relative_motion"]),
            "gap by itself": "not measured" if layer["gap"] is None else number(layer["gap"]),
        }
        for layer in numbers["layers"][:MOST_LAYERS]
    ]


def missing(numbers: Numbers) -> list[str]:
    """A sentence for each number that could not be measured."""
    return [
        f"Not measured: {LABELS[name]}: {reading['reason']}."
        for name, reading in numbers["readings"].items()
        if reading["value"] is None
    ]


def _value(reading: Mapping[str, Any]) -> str:
    return "not measured" if reading["value"] is None else number(reading["value"])


def _interval(reading: Mapping[str, Any]) -> str:
    if reading["value"] is None or reading["low"] is None:
        return ""
    return f"[{reading['low']:.3g}, {reading['high']:.3g}]"
