"""Commands that compute and report: the main job, training, and the test of a trained map."""

from pathlib import Path
from typing import Annotated

import typer

from regimes.cli.app import app
from regimes.cli.options import Given, path, with_given

MAIN_JOB, OT_GAP, DIAGNOSE = "lazy-vs-meanfield", "ot-gap", "diagnose"
JOBS = {
    MAIN_JOB: "lazy_vs_meanfield",
    OT_GAP: "ot_gap",
    DIAGNOSE: "diagnose",
}  # runs that state nothing, and their modules


@app.command(MAIN_JOB)
@with_given
def lazy_vs_meanfield(
    alpha: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Scale α of the output; large is lazy, 1 is mean-field.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(metavar="NAME", help="teacher, circle, digits or mnist.")] = None,
    width: Annotated[int | None, typer.Option(metavar="N", help="Neurons of the hidden layer.")] = None,
    seeds: Annotated[int | None, typer.Option(metavar="N", help="Repetitions; intervals are over these.")] = None,
    *,
    given: Given,
) -> None:
    """Compare lazy and mean-field on one data set.

    Trains the α-scaled net, its tangent model, the mean-field net and the infinite-width kernel, and says which is lazy
    by which number.
    """
    from regimes.jobs.lazy_vs_meanfield import Config, start

    settings = given.settings(Config, alpha=alpha, dataset=dataset, width=width, seeds=seeds)
    if settings is not None:
        folder = start(settings, given.out, fresh=given.fresh, across_commits=given.across_commits)
        print(f"Results: {folder}")


@app.command("train")
@with_given
def train_classifier(
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="circles, donut1d, donut2d, squares2d, spiral2d, digits, mnist, cifar10 or cifar100."
        ),
    ] = None,
    arch: Annotated[
        str | None, typer.Option(metavar="NAME", help="Architecture; by default that of the data set's recipe.")
    ] = None,
    lap: Annotated[bool, typer.Option("--lap", help="Least action: transport cost with the multiplier λ.")] = False,
    mean_field: Annotated[bool, typer.Option("--mean-field", help="Blocks as particles (θ, τ); τ is trained.")] = False,
    reversible: Annotated[
        bool, typer.Option("--reversible", help="Rebuild states on the way back: memory of one block at any depth.")
    ] = False,
    module_wise: Annotated[
        int | None,
        typer.Option(metavar="K", help="Train K modules of blocks greedily, each for a classifier of its own."),
    ] = None,
    movement_step: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="τ of module-wise training: a module's transport counts 1/(2τ)."),
    ] = None,
    train_size: Annotated[int | None, typer.Option(metavar="N", help="Training samples; all by default.")] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Passes over the training samples.")] = None,
    max_steps: Annotated[int | None, typer.Option(metavar="N", help="Stop after this many optimiser steps.")] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="Samples a step.")] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", help="Repetitions, one folder each; intervals are over these.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="The (first) seed: of data, weights and batches.")
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Train the seeds side by side: for many small nets on one card or core.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run; an error if there is none.")] = False,
    *,
    given: Given,
) -> None:
    """Train a network: plain, least action, mean-field.

    The same command again goes on where the run was stopped, bit for bit on a CPU; with --out DIR and more --epochs it
    goes further. The best epoch is chosen on validation samples; the test samples are measured at the end alone.
    """
    from functools import partial

    from regimes.errors import Diverged
    from regimes.lab.console import print_table
    from regimes.training import train
    from regimes.training.config import TrainConfig, folder_of

    flags = {"dataset": dataset, "arch": arch, "lap": lap or None, "train_size": train_size, "epochs": epochs}
    flags |= {"max_steps": max_steps, "batch": batch, "seeds": seeds, "seed": seed, "mean_field": mean_field or None}
    flags |= {"reversible": reversible or None, "module_wise": module_wise, "movement_step": movement_step}
    settings = given.settings(TrainConfig, **flags)
    if settings is None:
        return
    where = given.out or folder_of(settings)
    how = {"fresh": given.fresh, "across_commits": given.across_commits}
    try:
        outcome = train(settings, where, resume=resume, ensemble=ensemble, say=partial(print, flush=True), **how)
    except Diverged as error:
        if error.outcome is not None:
            print_table(error.outcome.table, wide=where / "table.md")
        raise
    print_table(outcome.table, wide=where / "table.md")
    print(f"Results: {where}")


@app.command(OT_GAP)
@with_given
def ot_gap(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="CKPT...", parser=path, help="Checkpoints that `train` has written.")
    ],
    points: Annotated[int | None, typer.Option(metavar="N", help="Points to be transported; 1,000 by default.")] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="test, train or validation.")] = None,
    stage: Annotated[
        int | None, typer.Option(metavar="N", help="One segment of blocks, from 0; all by default.")
    ] = None,
    p: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Exponent of the cost ‖x − y‖^p; 2 by default.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of the choice of points and of the probes.")] = None,
    seconds: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Limit of each exact solve; then a bracket remains.")
    ] = None,
    *,
    given: Given,
) -> None:
    """Is a network's map an optimal transport map?

    Checkpoints side by side: the exact gap on their points, certified, and the symmetry of the map's Jacobian.
    """
    from regimes.jobs.ot_gap import Config, given_files, start

    flags = {"points": points, "split": split, "stage": stage, "p": p, "seed": seed, "seconds": seconds}
    settings = given.settings(Config, **flags, checkpoints=given_files(checkpoints))
    if settings is not None:
        how = {"fresh": given.fresh, "across_commits": given.across_commits}
        print(f"Results: {start(settings, given.out, **how)}")


@app.command(DIAGNOSE)
@with_given
def diagnose(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", parser=path, help="A checkpoint of `train`, or a file of weights.")
    ],
    against: Annotated[
        Path | None,
        typer.Option(metavar="INIT", parser=path, help="Weights before training; by default those the run kept."),
    ] = None,
    points: Annotated[int | None, typer.Option(metavar="N", help="Training samples; 200 by default.")] = None,
    kernel_points: Annotated[
        int | None, typer.Option(metavar="N", help="Those of them for kernels; 100 by default.")
    ] = None,
    factory: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="Makes the network of other weights. This code is run."),
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=path, help="Tensors x, y (and held_out) of other weights.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of the choice of samples.")] = None,
    *,
    given: Given,
) -> None:
    """Was this training lazy?

    Compares a network with its start: the linearisation gap decides; motion, kernel, flips, richness and κ stand beside
    it. Files of weights (.pt, .safetensors) run no code; a --factory is code that you name.
    """
    from regimes.jobs.diagnose import Config, given_files, start

    flags = {"points": points, "kernel_points": kernel_points, "factory": factory, "seed": seed}
    settings = given.settings(Config, **flags, **given_files(checkpoint, against, samples))
    if settings is not None:
        how = {"fresh": given.fresh, "across_commits": given.across_commits}
        print(f"Results: {start(settings, given.out, **how)}")
