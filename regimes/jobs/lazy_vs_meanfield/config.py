"""Configuration of the main job; sizes left open are filled in per data set, so that the saved one is complete."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from regimes.lab.config import Settings

# What each data set is trained with, unless given: sizes, the common criterion (training loss over its value at t = 0)
# and the flow time at which training ends if the criterion is not met before.
SIZES: dict[str, dict[str, Any]] = {
    "teacher": {"width": 200, "train_size": 100, "test_size": 1000, "seeds": 5, "loss_ratio": 1e-3, "horizon": 1e4},
    "circle": {"width": 40, "train_size": 15, "test_size": 500, "seeds": 5, "loss_ratio": 1e-3, "horizon": 1e4},
    "digits": {"width": 200, "train_size": 200, "test_size": 150, "seeds": 3, "loss_ratio": 0.1, "horizon": 1e4},
    "mnist": {"width": 200, "train_size": 200, "test_size": 1000, "seeds": 3, "loss_ratio": 0.1, "horizon": 1e4},
}
LEAST, MOST = 1e-4, 1e10  # α


class Config(Settings):
    """One comparison: the α-scaled net, its tangent model, the mean-field net and the infinite-width kernel."""

    alpha: float = Field(100.0, description="scale α of the output; large is lazy, 1 is mean-field")
    dataset: Literal["teacher", "circle", "digits", "mnist"] = Field("teacher", description="data set")
    classes: Annotated[list[int], Field(min_length=2)] | None = Field(
        None, description="labels that are kept of digits and mnist; null: all ten"
    )
    width: Annotated[int, Field(ge=2, multiple_of=2)] = Field(
        description="neurons, half of them mirror images (doubling)"
    )
    seeds: Annotated[int, Field(ge=1)] = Field(description="repetitions; intervals are over these")
    train_size: Annotated[int, Field(ge=2)] = Field(description="training samples")
    test_size: Annotated[int, Field(ge=2)] = Field(description="test samples")
    activation: Literal["relu", "erf"] = Field("relu", description="σ of the neurons")
    init_std: Annotated[float, Field(ge=1e-4, le=1e4)] = Field(
        1.0, description="standard deviation of the initial weights"
    )
    loss_ratio: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="training ends when the loss has fallen by this factor"
    )
    horizon: Annotated[float, Field(gt=0.1, allow_inf_nan=False)] = Field(
        description="longest time of training, in units of flow time"
    )
    times: Annotated[int, Field(ge=10)] = Field(
        140, description="moments, in steps of equal ratio, at which everything is measured"
    )
    tolerance: Annotated[float, Field(gt=0, le=0.1)] = Field(1e-5, description="relative error of one integration step")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where it is computed")
    data_dir: Path | None = Field(None, description="folder with the data files; null: REGIMES_DATA_DIR")

    @field_validator("alpha")
    @classmethod
    def alpha_that_can_be_measured(cls, alpha: float) -> float:
        """Small α: training takes a flow time in proportion to α. Large α: w − w_0 = O(1/α) runs out of digits."""
        if not LEAST <= alpha <= MOST:
            raise ValueError(
                f"needs to be between {LEAST:g} and {MOST:g}: below, training is over before the first moments that "
                "are measured, and above, the weights move by less than a float64 can hold"
            )
        return alpha

    @model_validator(mode="before")
    @classmethod
    def fill_sizes(cls, values: Any) -> Any:
        """Sizes that were not given are those of the data set."""
        if not isinstance(values, dict):
            return values
        dataset = values.get("dataset", "teacher")
        sizes = SIZES.get(dataset, SIZES["teacher"]) if isinstance(dataset, str) else SIZES["teacher"]
        return {**sizes, **{key: value for key, value in values.items() if not (key in sizes and value is None)}}
