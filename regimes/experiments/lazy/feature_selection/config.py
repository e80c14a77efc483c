"""Settings of the feature-selection statement: the defaults are a smoke run of seconds."""

from typing import Annotated

from pydantic import Field, model_validator

from regimes.lab.config import Settings

LEAST = 2  # coordinates of a target: one with each sign
Relevant = Annotated[int, Field(ge=LEAST, multiple_of=2)]


class Config(Settings):
    """Targets, sizes and training; configs/feature_selection.yaml is the real size."""

    relevant: tuple[Relevant, ...] = Field(
        (2, 16),
        min_length=1,
        description="numbers k of coordinates that the target depends on; slopes need at least two",
    )
    seeds: int = Field(2, ge=1, description="repetitions: inputs and nets drawn afresh; all k of a seed share them")
    first_seed: int = Field(0, ge=0, description="seed of the first; a pilot takes others than the run")
    inputs: int = Field(16, ge=2, multiple_of=2, description="dimension d of the inputs")
    samples: int = Field(64, ge=1, description="training points n, uniform on the sphere of radius √d")
    validation: int = Field(256, ge=1, description="points that choose the ridge, and the iteration of each net")
    test_samples: int = Field(1000, ge=2, description="points of the test error")
    width: int = Field(128, ge=1, description="neurons m of the nets")
    rich: float = Field(1.0, gt=0, description="scale α of the nets that learn features: 1 is the mean-field scaling")
    lazy: float = Field(1000.0, gt=0, description="scale α of the lazy nets")
    step: float = Field(0.5, gt=0, description="flow time of one iteration of gradient descent")
    iterations: int = Field(400, ge=1, description="iterations of full-batch gradient descent")
    look_every: int = Field(20, ge=1, description="iterations between two looks at the validation error")

    @model_validator(mode="after")
    def _relevant_within_inputs(self) -> "Config":
        if max(self.relevant) > self.inputs:
            raise ValueError(f"a target needs k ≤ d = {self.inputs}; got {max(self.relevant)}. Lower relevant.")
        return self
