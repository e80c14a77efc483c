"""Settings of the init-scale statement, and its grid: the defaults are a smoke run of seconds."""

from typing import Annotated, Any, Literal

from pydantic import Field

from regimes.lab.config import Settings

Scale = Annotated[float, Field(ge=1e-30, le=1e30)]  # gradients of float32, and norms of the weights, are numbers there


class Config(Settings):
    """Scales, trials and sizes; configs/init_scale.yaml is the published size."""

    tau: list[Scale] = Field(
        [0.02, 0.2, 2.0], min_length=1, description="scales τ of the initial weights, fixed training set (Fig. 1c)"
    )
    tau_population: list[Scale] = Field(
        [0.02, 0.2, 2.0], min_length=1, description="the same for fresh samples at each step (Fig. 2b)"
    )
    seeds: int = Field(2, ge=1, description="trials: teacher, data and start drawn afresh, shared by all τ")
    inputs: int = Field(20, ge=2, description="dimension d of the inputs")
    neurons: int = Field(16, ge=2, multiple_of=2, description="neurons m; half are drawn, half are their mirror images")
    samples: int = Field(200, ge=1, description="training samples on the unit sphere")
    test_samples: int = Field(500, ge=1, description="test samples on the unit sphere")
    iterations: int = Field(500, ge=1, description="steps on the fixed training set")
    batch: int = Field(50, ge=1, description="fresh samples of each step in the population setting")
    population_iterations: int = Field(500, ge=1, description="steps in the population setting")
    averaged: int = Field(200, ge=1, description="last batches whose mean loss is the population loss")
    precision: Literal["float32", "float64"] = Field(
        "float32", description="number format of the gradients; weights are float64"
    )


def points(config: Config) -> list[dict[str, Any]]:
    """Both settings, each with its own scales; a trial is a seed."""
    scales = {"full_batch": config.tau, "population": config.tau_population}
    return [
        {"setting": setting, "seed": seed, "tau": tau}
        for setting, taus in scales.items()
        for seed in range(config.seeds)
        for tau in taus
    ]
