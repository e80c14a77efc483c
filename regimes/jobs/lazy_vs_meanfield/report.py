"""From the measured arrays to the table, the verdicts in words and result.json; nothing is trained here."""

import math
from typing import Any

import numpy as np

from regimes.jobs.lazy_vs_meanfield.config import Config
from regimes.jobs.lazy_vs_meanfield.measure import MODELS, Measurement
from regimes.jobs.lazy_vs_meanfield.problem import NETS
from regimes.lab.intervals import POSITIVE, SHARE
from regimes.lab.statistics import Mean, geometric_mean_interval, mean_interval
from regimes.tangent.verdict import Judged, Measured, judge_laziness

LOSSES = ("train_loss", "test_loss", "train_error", "test_error")
SHARES = ("train_error", "test_error", "activation_flips", "activation_flips_error")  # all else is positive
ONE = "one seed, no interval"
HARDLY = 0.1  # share of the loss that has to be gone before a net is called lazy
MOTIONS = ("weight_motion", "kernel_drift", "activation_flips", "tangent_distance")
DECIDING = {  # numbers that decide about laziness, each with its integration error
    "tangent_distance": "integration_error",
    "kernel_drift": "kernel_drift_error",
    "activation_flips": "activation_flips_error",
}


def names(alpha: float) -> dict[str, str]:
    """What the models are called in figures and tables."""
    return {
        "lazy": f"scaled net, α = {alpha:g}",
        "tangent": "tangent model",
        "mean_field": "mean-field net, α = 1",
        "infinite_width": "infinite-width kernel",
    }


def summary(measurement: Measurement, classes: bool) -> dict[str, dict[str, Mean]]:
    """Mean and 95 % interval over seeds of each quantity of each model, at the moment its training ended.

    The intervals keep to the range of their quantity: shares to [0, 1], all others to positive numbers.
    """
    found: dict[str, dict[str, Mean]] = {}
    for index, model in enumerate(MODELS):
        stop = measurement.stop[index][:, None]
        quantities = LOSSES if classes else LOSSES[:2]
        at_stop = {name: getattr(measurement, name)[index] for name in quantities}
        values = {name: np.take_along_axis(curve, stop, 1)[:, 0] for name, curve in at_stop.items()}
        if model in NETS:
            net = NETS.index(model)
            for name in (*MOTIONS, *DECIDING.values()):
                whole = getattr(measurement, name)[net]
                values[name] = whole if whole.ndim == 1 else np.take_along_axis(whole, stop, 1)[:, 0]
        met = measurement.reached[index]
        if met.any():
            values["time"] = measurement.times[measurement.stop[index]][met]
        found[model] = {
            name: mean_interval(value, within=SHARE if name in SHARES else POSITIVE) for name, value in values.items()
        }
    return found


def verdicts(found: dict[str, dict[str, Mean]], measurement: Measurement) -> dict[str, Judged]:
    """Lazy, not lazy or undecided, for each of the two nets; one that has hardly been trained is not called lazy.

    The words say where one seed alone stands for the net.
    """
    judged = {
        net: judge_laziness(
            {name: _measured(found[net][name], found[net][error].value) for name, error in DECIDING.items()}
        )
        for net in NETS
    }
    for net, one in judged.items():
        untrained, seeds = _untrained(measurement, MODELS.index(net))
        if one.verdict == "lazy" and untrained:
            words = (
                f"undecided: in {untrained} of {seeds} seeds its training loss has fallen by less than a tenth, and "
                "every training begins close to its tangent model; take a larger horizon"
            )
            judged[net] = one._replace(verdict="undecided", words=words)
    if measurement.reached.shape[1] == 1:
        return {net: one._replace(words=f"{one.words} ({ONE})") for net, one in judged.items()}
    return judged


def caption(seeds: int) -> str:
    """What the numbers of the table are."""
    return f"Values of one training ({ONE})." if seeds == 1 else "Arithmetic means over seeds with 95 % intervals."


def _untrained(measurement: Measurement, model: int) -> tuple[int, int]:
    """In how many seeds a model missed the criterion and its loss hardly fell from the first moment on; and of all."""
    loss, stop = measurement.train_loss[model], measurement.stop[model][:, None]
    fallen = 1 - np.take_along_axis(loss, stop, 1)[:, 0] / loss[:, 0]
    return int((~measurement.reached[model] & ~(fallen >= HARDLY)).sum()), len(loss)


def _measured(mean: Mean, error: float) -> Measured:
    """The mean with its interval; one seed has no interval and stands for itself."""
    low, high = (mean.value, mean.value) if mean.repetitions == 1 else mean.interval
    return Measured(mean.value, low, high, error)


def table(measurement: Measurement, found: dict[str, dict[str, Mean]], config: Config) -> list[dict[str, str]]:
    """One row a quantity and one column a model, mean and 95 % interval over seeds."""
    called = names(config.alpha)
    quantities = [name for name in (*LOSSES, *MOTIONS, "integration_error") if name in found["lazy"]]
    rows = [
        {"quantity": name.replace("_", " "), **{called[model]: _text(found[model].get(name)) for model in MODELS}}
        for name in quantities
    ]
    stops = {called[model]: _stopped(measurement, i, found[model].get("time")) for i, model in enumerate(MODELS)}
    return [*rows, {"quantity": "criterion met", **stops}]


def slim_table(measurement: Measurement, found: dict[str, dict[str, Mean]], config: Config) -> list[dict[str, str]]:
    """The same for a screen of 80 columns: short names, means without their intervals."""
    whole, called = table(measurement, found, config), names(config.alpha)
    short = {
        called["lazy"]: f"scaled, α={config.alpha:g}",
        called["tangent"]: "tangent",
        called["mean_field"]: "mean-field",
        called["infinite_width"]: "infinite width",
    }
    return [
        {"quantity": row["quantity"], **{short[name]: row[name].partition(" [")[0] for name in short}} for row in whole
    ]


def result(measurement: Measurement, found: dict[str, dict[str, Mean]], config: Config) -> dict[str, Any]:
    """The content of result.json; numbers are means over seeds, with their 95 % intervals beside them."""
    judged, proved = verdicts(found, measurement), theorem(measurement)
    models: dict[str, Any] = {}
    for index, model in enumerate(MODELS):
        models[model] = {
            **{name: mean.value for name, mean in found[model].items()},
            "reached_criterion": int(measurement.reached[index].sum()),
            "intervals": {name: mean.interval for name, mean in found[model].items()},
        }
        if model in judged:
            models[model]["verdict"] = judged[model].verdict
            models[model]["reason"] = judged[model].words
            models[model]["theorem_2_3"] = proved[model]
    for model, condition in zip(("tangent", "infinite_width"), measurement.condition, strict=True):
        models[model]["condition"] = float(condition.max())
    return {
        "alpha": config.alpha,
        "dataset": config.dataset,
        "seeds": config.seeds,
        "models": models,
        "integration_error": max(found[net]["integration_error"].value for net in NETS),
        "verdict": {net: judged[net].verdict for net in NETS},
        "words": words(measurement, found, config),
    }


def words(measurement: Measurement, found: dict[str, dict[str, Mean]], config: Config) -> list[str]:
    """The verdict as sentences: one for each net, then what laziness did to the test loss."""
    called = names(config.alpha)
    said = [f"The {called[net]} is {judged.words}." for net, judged in verdicts(found, measurement).items()]
    if config.alpha == 1:
        said.append("At α = 1 the scaled net is the mean-field net: the two columns are one and the same run.")
    said.append(_theorem(measurement, config))
    said.append(_comparison(measurement, config))
    for index, model in enumerate(MODELS):
        seeds, missed = measurement.reached[index].size, int((~measurement.reached[index]).sum())
        if (measurement.stop[index] == 0).any():
            said.append(
                f"The {called[model]} met the criterion before the first moment t = {measurement.times[0]:g}: it is "
                "compared later than it should be; take a smaller init_std or loss_ratio."
            )
        if missed:
            said.append(
                f"The {called[model]} did not reach the criterion in {missed} of {seeds} seeds "
                f"by t = {measurement.times[-1]:g}: its numbers are those at the end."
            )
    return said


def theorem(measurement: Measurement) -> dict[str, dict[str, float]]:
    """Theorem 2.3 against the measurement of each net, for the seed nearest to its bound; NaN without one."""
    found = {}
    for net, (times, bounds, departures) in enumerate(
        zip(measurement.bound_time, measurement.bound, measurement.train_departure, strict=True)
    ):
        measured = np.array(
            [
                np.max(curve[measurement.times <= time], initial=0.0)
                for time, curve in zip(times, departures, strict=True)
            ]
        )
        worst = int(np.argmax(np.nan_to_num(measured / bounds, nan=-1.0)))
        found[NETS[net]] = {
            "time": float(times[worst]),
            "bound": float(bounds[worst]),
            "measured": float(measured[worst]) if np.isfinite(bounds[worst]) else math.nan,
        }
    return found


def _theorem(measurement: Measurement, config: Config) -> str:
    found = {net: values for net, values in theorem(measurement).items() if math.isfinite(values["bound"])}
    if not found and config.activation == "relu":
        return (
            "Theorem 2.3 gives no bound: it needs a Lipschitz derivative, and that of ReLU jumps (try activation=erf)."
        )
    if not found:
        return "Theorem 2.3 gives no bound: α is below what it needs on every ball around the start."
    parts = [
        f"{names(config.alpha)[net]}, up to t = {values['time']:.3g}: ‖f − f̄‖/‖y‖ at most {values['bound']:.3g} by "
        f"proof, {values['measured']:.3g} measured"
        for net, values in found.items()
    ]
    return f"Theorem 2.3 ({'; '.join(parts)})."


def _comparison(measurement: Measurement, config: Config) -> str:
    """Test loss of the scaled net over that of the mean-field net, paired by seed."""
    ends = {
        net: np.take_along_axis(measurement.test_loss[index], measurement.stop[index][:, None], 1)[:, 0]
        for index, net in enumerate(MODELS)
    }
    ratio = geometric_mean_interval(ends["lazy"] / ends["mean_field"])
    value, (low, high) = ratio
    if ratio.repetitions == 1:
        return f"Test loss of the scaled net over the mean-field net: {value:.3g} ({ONE})."
    side = "higher" if low > 1 else "lower" if high < 1 else "no clear difference"
    return (
        f"Test loss of the scaled net over the mean-field net, geometric mean of {ratio.repetitions} seeds: "
        f"{value:.3g} [{low:.3g}, {high:.3g}] ({side})."
    )


def _text(mean: Mean | None) -> str:
    if mean is None:
        return ""
    low, high = mean.interval
    return f"{mean.value:.3g}" + (f" [{low:.3g}, {high:.3g}]" if mean.repetitions != 1 and low < high else "")


def _stopped(measurement: Measurement, index: int, time: Mean | None) -> str:
    """When the criterion was met, on average over the seeds that met it."""
    met, total = int(measurement.reached[index].sum()), measurement.reached.shape[1]
    if time is None:
        return f"not by t = {measurement.times[-1]:.3g}"
    return f"t = {time.value:.3g}" + ("" if met == total else f" ({met} of {total} seeds)")
