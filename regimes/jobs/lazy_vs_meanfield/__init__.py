"""The main job: the α-scaled net, its tangent model, the mean-field net and the infinite-width kernel side by side.

Protocol. Two-layer net h(x) = (1/m) Σ_j a_j σ(b_j·x), Gaussian weights, doubled so that h(w_0) = 0. The scaled net
follows the particle flow of R(αh)/α², the mean-field net that of R(h), from the same weights and on the same data,
until their training loss has fallen by the factor `loss_ratio`. The tangent model and the infinite-width kernel are
solved exactly and stop by the same criterion. Numbers are taken at that moment; the distance of a net to its tangent
model is that at the same flow time, on test inputs. Intervals are over seeds; each draws its own data, teacher and
weights.
Nothing is tuned on the test data.
Source: [ChizatOyallonBach2019] for α, R(αh)/α² and the doubling; the comparison at equal criterion is ours.
"""

from pathlib import Path

import numpy as np

from regimes.data.origins import files_digest
from regimes.errors import Interrupted
from regimes.jobs.lazy_vs_meanfield.config import Config
from regimes.jobs.lazy_vs_meanfield.measure import Measurement, measure
from regimes.jobs.lazy_vs_meanfield.memory import refuse_too_large
from regimes.jobs.lazy_vs_meanfield.problem import refuse_missing_samples
from regimes.jobs.lazy_vs_meanfield.report import ONE, caption, result, slim_table, summary, table, words
from regimes.jobs.lazy_vs_meanfield.shelf import Shelf
from regimes.lab.array_files import damaged, read_arrays, write_arrays
from regimes.lab.console import print_table
from regimes.lab.drawing import attempt
from regimes.lab.report import markdown_table, origin, to_json
from regimes.lab.runs import RunFolder, default_folder
from regimes.lab.stamps import data_digest, job_stamp

__all__ = ["NAME", "Config", "conclude", "run", "start"]

NAME = "lazy-vs-meanfield"
ARRAYS = "measurement.npz"


def start(config: Config, out: Path | None = None, *, fresh: bool = False, across_commits: bool = False) -> Path:
    """Run in a folder, by default one under runs/ that is named after data set and α; the folder.

    What other code has begun is gone on with only with `across_commits`.
    """
    stem = f"{NAME}-{config.dataset}-alpha{config.alpha:g}"
    path = out or default_folder(stem, config, {"dataset", "alpha"})
    if fresh or not (path / ARRAYS).exists():
        refuse_missing_samples(config)  # a mistake leaves no folder behind
        refuse_too_large(config)
    made = job_stamp(config, data=data_digest(config, files_digest))
    with RunFolder.open(path, NAME, config, fresh=fresh, across_commits=across_commits, stamp=made) as folder:
        run(config, folder)
    return path


def run(config: Config, folder: RunFolder) -> None:
    """Measure (unless this folder has the measurement already), then write and print table, verdict and figure.

    What is finished is kept in the folder as it goes. Interrupted: Ctrl-C, after the net under way was kept, too.
    """
    if not (folder.path / ARRAYS).exists():
        folder.begin()
        shelf = Shelf(folder)
        try:
            measurement = measure(config, shelf)
        except KeyboardInterrupt:
            shelf.flush()
            raise Interrupted(
                f"interrupted: what is trained so far is kept in {folder.path}; "
                "run the same command again to go on from there"
            ) from None
        write_arrays(folder, ARRAYS, measurement._asdict())
        shelf.clear()
    conclude(config, folder)


def conclude(config: Config, folder: RunFolder) -> None:
    """Table, verdict, result.json and figure from the measurement on disk; nothing is trained."""
    measurement = _read(folder.path / ARRAYS)
    found = summary(measurement, classes=bool(np.isfinite(measurement.test_error).any()))
    rows, said = table(measurement, found, config), words(measurement, found, config)
    content = {"name": folder.name, **result(measurement, found, config), "config": folder.config, **folder.record()}
    folder.write("result.json", to_json(content))
    head = f"# Lazy against mean-field: {config.dataset}, α = {config.alpha:g}\n\n{caption(config.seeds)}\n"
    lines = "\n".join(f"- {sentence}" for sentence in said)
    end = f"Reproduce: `{content.get('command')}`\n\n{origin(content)}"
    folder.write("table.md", f"{head}\n{markdown_table(rows)}\n{lines}\n\n{end}")
    trouble = attempt(lambda: _draw(measurement, config, folder))
    print_table(slim_table(measurement, found, config))
    alone = config.seeds == 1
    told = f"Values of {ONE}; all of them" if alone else f"Means over {config.seeds} seeds; their intervals"
    print(f"{told}: {folder.path / 'table.md'}")
    print("\n".join(said))
    if trouble is not None:
        print(f"The figure could not be drawn ({trouble}). Table and result stand.")


def _draw(measurement: Measurement, config: Config, folder: RunFolder) -> None:
    from regimes.jobs.lazy_vs_meanfield.figure import draw
    from regimes.lab.figures import save

    save(draw(measurement, config), folder)


def _read(file: Path) -> Measurement:
    if not file.exists():
        raise FileNotFoundError(f"{file} does not exist; the run there has measured nothing yet: run it first")
    try:
        return Measurement(**read_arrays(file))
    except TypeError:
        raise damaged(file) from None
