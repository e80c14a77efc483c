"""What is left of a run: figures of the best and of the last weights, table, figure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from regimes.data.batches import Batches
from regimes.errors import out_of_memory
from regimes.lab.drawing import attempt
from regimes.lab.report import markdown_table, to_json
from regimes.lab.runs import RunFolder
from regimes.lab.wild_risks import stale, wild
from regimes.machine import matrix_rate
from regimes.models.costs import training_flops
from regimes.models.residual import parameter_count
from regimes.modules.modes import with_running_statistics
from regimes.training.assemble import Setup
from regimes.training.checkpoint import FIT, RESULT
from regimes.training.config import StepSettings, idle
from regimes.training.metrics import TIME_NUMBERS, Evaluation, costs, known, sentence

COLUMNS = {
    "train_accuracy": "train accuracy",
    "validation_accuracy": "validation accuracy",
    "test_accuracy": "test accuracy",
    "test_risk": "test risk",
    "transport": "transport cost",
    "multiplier": "λ",
}


class Ends(NamedTuple):
    """What one set of weights reaches in eval mode: on training samples and, where there are some, on test samples."""

    train: Evaluation
    test: Evaluation | None


def measure_ends(
    setup: Setup, weights: Mapping[str, Tensor] | None, measure: Callable[[Batches], Evaluation]
) -> tuple[Ends, Ends]:
    """Figures with the chosen weights (None: the last ones) and with the last ones."""

    def both() -> Ends:
        return Ends(measure(setup.fitted), None if setup.test is None else measure(setup.test))

    model, last = setup.training.model, both()
    if weights is None:
        return last, last
    last_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights)
    try:
        return both(), last
    finally:
        model.load_state_dict(last_weights)


def why_diverged(setup: Setup, last: Ends, best: Any, start: float, by_batch: Callable[[], Tensor]) -> str | None:
    """Why a run counts as diverged that has come to its end, if it does.

    best: the best epoch, if there is one; start: risk of the first step; by_batch: measures the risk on the training
    samples with each batch's own statistics, to tell wild weights from stale running statistics.
    """
    classes = setup.data.classes or None
    part, measured = ("training", last.train) if last.test is None else ("test", last.test)
    reason = wild(measured.risk, classes, start, part)
    if reason and with_running_statistics(setup.training.model):
        reason += stale(float(by_batch()), classes, start)
    return reason or (None if best else "the risk on the validation samples was finite after no epoch")


def conclude(
    folder: RunFolder,
    config: StepSettings,
    setup: Setup,
    best: int,
    rows: Sequence[Mapping[str, Any]],
    chosen: Ends,
    last: Ends,
    tests: int = 0,
    diverged: str | None = None,
) -> dict[str, Any]:
    """Write result.json, table.md, figure from the figures of the chosen weights and of the last ones.

    tests: how often the test samples were measured. diverged: why the last weights count as diverged, if
    they do. The figure comes last, and may fail at no cost.
    """
    model, data = setup.training.model, setup.data
    score = "validation accuracy" if data.classes else "validation risk"
    flops = _flops(setup)
    possible = matrix_rate(config.device, bf16=config.bf16) * setup.training.ranks.count
    result = {
        **setup.head,
        "parameters": parameter_count(model),
        "samples": _samples(setup),
        "protocol": f"best epoch by {score if data.validation is not None else 'training risk'}",
        "outcome": "trained" if diverged is None else "diverged",
        **({} if diverged is None else {"reason": diverged}),
        "test_measurements": tests,
        "best": _entry(next(row for row in rows if row["epoch"] == best), chosen),
        "last": _entry(rows[-1], last),
        **costs(rows, flops, possible, config.target),
        "config": folder.config,
        **folder.record(),
    }
    folder.write("table.md", _page(config, setup, result))
    folder.write(RESULT, to_json(result))
    drawn = _figure(folder, rows)
    if drawn:
        result |= drawn
        folder.write(RESULT, to_json(result))
    return result


def conclude_diverged(
    folder: RunFolder, config: StepSettings, setup: Setup, rows: Sequence[Mapping[str, Any]], reason: str
) -> dict[str, Any]:
    """Write result.json and table.md of a run that came to no end."""
    result = {
        **setup.head,
        "parameters": parameter_count(setup.training.model),
        "samples": _samples(setup),
        "outcome": "diverged",
        "reason": reason,
        "epochs": rows[-1]["epoch"] if rows else 0,
        "best": None,
        "last": None,
        "config": folder.config,
        **folder.record(),
    }
    page = [
        f"# {setup.origin.title}, {minimised(config)}: diverged\n",
        f"Diverged at {reason}.\n",
        markdown_table(summary_rows(result)),
        f"Reproduce: `{result.get('command')}` {_at(result)}.\n",
    ]
    folder.write("table.md", "\n".join(page))
    folder.write(RESULT, to_json(result))
    return result


def summary_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table of a run: one row for the best weights, one for the last; "diverged" with the weights that are."""
    gone = result["outcome"] == "diverged"
    if result["last"] is None:
        return [{"weights": "none: diverged", "whole epochs": result["epochs"]}]
    table = []
    for which in ("best", "last"):
        entry = result[which]
        same = entry["epoch"] == result["last"]["epoch"]
        line = {"weights": f"{which}, epoch {entry['epoch']}{', diverged' if gone and same else ''}"}
        line |= {words: entry[name] for name, words in COLUMNS.items() if entry[name] is not None}
        if entry["test_risk"] is None:
            line["train risk"] = entry["train_risk"]
        if "times" in entry:
            spread = entry["times"]
            line["weights of blocks"] = f"{spread['smallest_weight']:.3g} to {spread['largest_weight']:.3g}"
            line["exchanges"] = spread["exchanges"]
        table.append(line)
    return table


def _tests(result: Mapping[str, Any]) -> str:
    """How often the test samples were measured, and with what."""
    count, differ = result["test_measurements"], result["best"]["epoch"] != result["last"]["epoch"]
    often = {1: "once, at the end", 2: "twice, at the end" if differ else "twice"}.get(count, f"{count} times")
    with_what = ", with the best and with the last weights" if differ else ""
    again = ", each time that the run had come to an end" if count > 1 + differ else ""
    return f"; the test samples were measured {often}{with_what}{again}"


def _flops(setup: Setup) -> float | None:
    """Flops of a training pass, a sample; None for a network of the caller's that cannot be copied or counted."""
    try:
        return training_flops(setup.training.model, next(iter(setup.batches.epoch(0)))[0][:2])
    except Exception as error:  # whatever a foreign network does: its results are worth more than this number
        if setup.origin.program != FIT or out_of_memory(error):
            raise
        return None


def _samples(setup: Setup) -> dict[str, int]:
    data = setup.data
    validation, available = (0 if part is None else len(part.labels) for part in (data.validation, data.test))
    return {
        "train": len(data.train.labels),
        "train_measured": setup.fitted.samples,
        "validation": validation,
        "validation_measured": setup.measured.samples if validation else 0,
        "test": 0 if setup.test is None else setup.test.samples,
        "test_available": max(available, setup.all_tests),
    }


def _figure(folder: RunFolder, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Draw, or say why not: the results are on the disk already, and no figure is worth them."""

    def draw() -> None:
        from regimes.lab import training_figure
        from regimes.lab.figures import save

        save(training_figure.draw(rows), folder)

    reason = attempt(draw)
    return {} if reason is None else {"figure": f"not drawn: {reason}"}


def _at(result: Mapping[str, Any]) -> str:
    """The commit of a run, or those of a run that other code has gone on with."""
    commits = result.get("commits") or [result.get("commit")]
    return f"at commit{'s' if len(commits) > 1 else ''} {', '.join(map(str, commits))}"


def _entry(row: Mapping[str, Any], ends: Ends) -> dict[str, Any]:
    """Figures of one set of weights, in eval mode; transport cost and its blocks on the test samples, if there are any.

    running_risk and running_accuracy are means over the steps of its epoch, in train mode: of many weights.
    """
    times = {name: row[name] for name in row if name.startswith("tau_") or name in TIME_NUMBERS}
    test, moved = ends.test, ends.test or ends.train
    return {
        "epoch": row["epoch"],
        "train_risk": ends.train.risk,
        "train_accuracy": known(ends.train.accuracy),
        "running_risk": row["running_risk"],
        "running_accuracy": row["running_accuracy"],
        "validation_risk": row["validation_risk"],
        "validation_accuracy": row["validation_accuracy"],
        "multiplier": row["multiplier"],
        "penalty_share": row["penalty_share"],
        "test_risk": None if test is None else test.risk,
        "test_accuracy": None if test is None else known(test.accuracy),
        "transport": moved.transport,
        "blocks": moved.blocks.tolist(),
        **({"times": times} if times else {}),
    }


def minimised(config: StepSettings) -> str:
    """What training minimises, and in which form of the net, for a title."""
    tau, modules = getattr(config, "movement_step", None), getattr(config, "module_wise", None)
    what = "least action" if config.lap else f"minimising movement, τ = {tau:g}" if tau else "risk alone"
    what += ", blocks as particles (θ, τ)" if getattr(config, "mean_field", False) else ""
    return what + (f", {modules} modules trained greedily" if modules else "")


def _page(config: StepSettings, setup: Setup, result: Mapping[str, Any]) -> str:
    counts = result["samples"]
    part = "test" if counts["test"] else "training"
    cost = f" Transport cost: sum over blocks, {config.convention}, p = {config.p:g}, on the {part} samples."
    cost = cost if result["last"]["blocks"] else ""
    fewer = f" (of {counts['test_available']})" if counts["test"] < counts["test_available"] else ""
    some = counts["validation_measured"]
    validated = f" ({some} of them measured)" if some < counts["validation"] else ""
    fitted = "all" if counts["train_measured"] == counts["train"] else f"{counts['train_measured']} of the"
    measured = f"Accuracies and risks are those of the weights named, in eval mode, on {fitted} training samples."
    lines = [
        f"# {setup.origin.title}, {minimised(config)}\n",
        f"{counts['train']} training, {counts['validation']} validation{validated}, {counts['test']} test "
        f"samples{fewer}; {result['parameters']} parameters; seed {config.seed}. {result['protocol'].capitalize()}"
        f"{_tests(result) if counts['test'] else ''}. {measured}{cost}\n",
    ]
    if result["outcome"] == "diverged":
        lines.append(f"Diverged: {result['reason']}.\n")
    return "\n".join(
        [
            *lines,
            markdown_table(summary_rows(result)),
            f"{sentence(result)}\n",
            f"Reproduce: `{result.get('command')}` {_at(result)}.\n",
        ]
    )


def description(setup: Setup, config: StepSettings, done: int, total: int) -> str:
    """What is trained on what, and by which protocol the best epoch is chosen."""
    data, tests = setup.data, 0 if setup.test is None else setup.test.samples
    validation = 0 if data.validation is None else len(data.validation.labels)
    chosen = "training risk, as no sample is left to validate"
    if validation:
        some = min(setup.measured.samples, validation)
        chosen = f"{'accuracy' if data.classes else 'risk'} on {some:,} validation samples"
    whole = config.epochs * len(setup.batches)
    falling = config.schedule == "cosine" and total < whole
    fewer = f" (of {setup.all_tests:,})" if tests < setup.all_tests else ""
    return (
        f"{setup.origin.title} ({parameter_count(setup.training.model):,} parameters): "
        f"{len(data.train.labels):,} training, {validation:,} validation, {tests:,} test samples{fewer}; "
        f"{total:,} steps of batch {config.batch}{f', {done:,} done' if done else ''}. "
        f"{f'max_steps ends it before the learning rate is 0, after {whole:,} steps. ' if falling else ''}"
        f"The best epoch is chosen by {chosen}"
        f"{'; the test samples are measured at the end alone' if tests else ''}.{idle(config)}"
    )
