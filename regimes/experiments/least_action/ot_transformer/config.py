"""Settings of the small transformers, and the arms that are compared."""

from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import Field, model_validator

from regimes.lab.config import Settings

Name = Literal["vanilla", "deep", "passes", "steps", "transport"]
LOOKS = 60  # measurements of the test loss, evenly spaced
LAST = LOOKS // 10  # of these the final loss is the mean
PASSES = 5


class Arm(NamedTuple):
    """How often the stack of blocks is passed: with one set of weights or several, as steps or not, at which λ."""

    label: str
    passes: int = PASSES
    own_weights: bool = False
    as_steps: bool = False
    weight: float = 0.0


ARMS: dict[str, Arm] = {
    "vanilla": Arm("standard net", passes=1),
    "deep": Arm("standard net, 5 times as deep", own_weights=True),
    "passes": Arm("weights shared over 5 passes"),
    "steps": Arm("5 steps, λ = 0", as_steps=True),
    "transport": Arm("5 steps, λ = 1", as_steps=True, weight=1.0),
}


class Config(Settings):
    """Arms, samples, nets and training; configs/ot_transformer.yaml is the real size."""

    arm: tuple[Name, ...] = Field(get_args(Name), min_length=1, description="how the stack of blocks is passed")
    seeds: Annotated[int, Field(ge=1)] = Field(2, description="samples, initial weights and batches")
    first_seed: int = Field(0, ge=0, description="seed of the first; a pilot takes others than the run")
    train: Annotated[int, Field(ge=2)] = Field(30, description="training images of digits, of each seed its own")
    test: Annotated[int, Field(ge=2)] = Field(50, description="test images, of each seed its own")
    width: Annotated[int, Field(ge=2)] = Field(8, description="features of a token")
    heads: Annotated[int, Field(ge=1)] = Field(2, description="heads of the attention")
    blocks: Annotated[int, Field(ge=1)] = Field(1, description="blocks of the stack")
    batch: Annotated[int, Field(ge=1)] = Field(10, description="images a step")
    spacing: Annotated[int, Field(ge=1)] = Field(1, description="steps between two of the 60 looks at the test loss")
    rate: Annotated[float, Field(gt=0)] = Field(0.003, description="learning rate of AdamW, constant")
    decay: Annotated[float, Field(ge=0)] = Field(0.1, description="weight decay of AdamW, of matrices")

    @model_validator(mode="after")
    def fitting(self) -> "Config":
        """Heads share the width, and a batch is drawn from the training images."""
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}: take a multiple of heads")
        if self.batch > self.train:
            raise ValueError(f"batch {self.batch} is larger than train {self.train}: lower batch, or raise train")
        return self
