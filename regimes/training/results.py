"""What is left of a run: test figures of the best and of the last weights, table, figure."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from regimes.lab.report import markdown_table, to_json
from regimes.lab.runs import RunFolder
from regimes.models.residual import parameter_count
from regimes.training.assemble import Assembly
from regimes.training.config import TrainConfig
from regimes.training.evaluate import Evaluation
from regimes.training.metrics import TIME_FIGURES
from regimes.training.speed import costs, matrix_rate, sentence, training_flops


def measure_test(
    assembly: Assembly, weights: Mapping[str, Any] | None, measure: Callable[[Any], Evaluation]
) -> tuple[Evaluation, Evaluation]:
    """Figures on the test samples with the chosen weights (None: the last ones) and with the last ones."""
    model = assembly.training.model
    last = measure(assembly.test)
    if weights is None:
        return last, last
    last_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights)
    try:
        return measure(assembly.test), last
    finally:
        model.load_state_dict(last_weights)


def conclude(
    folder: RunFolder,
    config: TrainConfig,
    assembly: Assembly,
    best: int,
    rows: Sequence[Mapping[str, Any]],
    chosen: Evaluation,
    last: Evaluation,
) -> dict[str, Any]:
    """Write result.json, table.md, figure from the test figures of the chosen weights and of the last ones."""
    model = assembly.training.model
    validated = assembly.data.validation is not None
    flops = training_flops(model, assembly.data.shape)
    possible = matrix_rate(config.device, bf16=config.bf16) * assembly.training.ranks.count
    result = {
        "name": "train",
        "dataset": config.dataset,
        "arch": config.arch,
        "lap": config.lap,
        "mean_field": config.mean_field,
        "parameters": parameter_count(model),
        "samples": {
            "train": len(assembly.data.train.labels),
            "validation": len(assembly.data.validation.labels) if assembly.data.validation is not None else 0,
            "test": len(assembly.data.test.labels),
        },
        "protocol": "best epoch by validation accuracy" if validated else "best epoch by training risk",
        "best": _entry(rows[best - 1], chosen),
        "last": _entry(rows[-1], last),
        **costs(rows, flops, possible, config.target),
        "config": folder.config,
        **folder.record(),
    }
    folder.write("table.md", _page(config, result))
    result |= _figure(folder, rows)
    folder.write("result.json", to_json(result))
    return result


def summary_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table of a run: one row for the best weights, one for the last."""
    made = []
    for which in ("best", "last"):
        entry = result[which]
        line = {"weights": f"{which}, epoch {entry['epoch']}", "train accuracy": entry["train_accuracy"]}
        if entry["validation_accuracy"] is not None:
            line["validation accuracy"] = entry["validation_accuracy"]
        line |= {"test accuracy": entry["test_accuracy"], "test risk": entry["test_risk"]}
        if entry["transport"] is not None:
            line["transport cost"] = entry["transport"]
        if entry["multiplier"] is not None:
            line["λ"] = entry["multiplier"]
        if "times" in entry:
            spread = entry["times"]
            line["weights of blocks"] = f"{spread['smallest_weight']:.3g} to {spread['largest_weight']:.3g}"
            line["exchanges"] = spread["exchanges"]
        made.append(line)
    return made


def _figure(folder: RunFolder, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Draw, or say why not."""
    if importlib.util.find_spec("matplotlib") is None:
        return {"figure": "not drawn: it needs the package matplotlib"}
    from regimes.lab.figures import save
    from regimes.training.drawing import draw

    save(draw(rows), folder)
    return {}


def _entry(row: Mapping[str, Any], test: Evaluation) -> dict[str, Any]:
    """Figures of one set of weights; transport cost and its blocks on the test samples, if there are any."""
    times = {name: row[name] for name in row if name.startswith("tau_") or name in TIME_FIGURES}
    return {
        "epoch": row["epoch"],
        "train_risk": row["risk"],
        "train_accuracy": row["accuracy"],
        "validation_risk": row["validation_risk"],
        "validation_accuracy": row["validation_accuracy"],
        "multiplier": row["multiplier"],
        "test_risk": test.risk,
        "test_accuracy": test.accuracy,
        "transport": test.transport,
        "blocks": test.blocks.tolist(),
        **({"times": times} if times else {}),
    }


def _page(config: TrainConfig, result: Mapping[str, Any]) -> str:
    what = "least action" if config.lap else "risk alone"
    what += ", blocks as particles (θ, τ)" if config.mean_field else ""
    counts = result["samples"]
    cost = f" Transport cost: sum over blocks, {config.convention}, p = {config.p:g}, on the test samples."
    cost = cost if result["last"]["blocks"] else ""
    return "\n".join(
        [
            f"# {config.arch} on {config.dataset}, {what}\n",
            f"{counts['train']} training, {counts['validation']} validation, {counts['test']} test samples; "
            f"{result['parameters']} parameters; seed {config.seed}. {result['protocol'].capitalize()}; the test "
            f"samples were measured once, at the end.{cost}\n",
            markdown_table(summary_rows(result)),
            f"{sentence(result)}\n",
            f"Reproduce: `{result.get('command')}` at commit {result.get('commit')}.\n",
        ]
    )
