"""Settings: data, arms and training, and which arms are run with which seeds."""

from typing import Any, Literal

from pydantic import Field, field_validator

from regimes.errors import UserError
from regimes.experiments.mean_field.mean_field_resnet.arms import DEFAULT, MEAN_FIELD, VANILLA, read_arm
from regimes.lab.config import Settings

OWN = {
    *("dataset", "data_dir", "train_size", "validation", "test_size", "device", "bf16", "precision", "seed", "seeds"),
    *("max_steps", "mean_field", "checkpoint_seconds", "tensorboard"),
}
SMOKE = {"arch": "preact_resnet", "arch_options": {"depth": 14}, "epochs": 3, "batch": 25}


class Config(Settings):
    """Data, arms and training; the defaults are a smoke run, configs/mean_field_resnet.yaml is the real size here.

    `training` holds settings of `train`: what differs from the recipe of the data set, on digits from SMOKE.
    """

    dataset: Literal["digits", "cifar10", "cifar100"] = Field("digits", description="data set")
    data_dir: str | None = Field(None, description="folder with the data files; null: REGIMES_DATA_DIR")
    arm: list[str] = Field([VANILLA, MEAN_FIELD, DEFAULT], min_length=1, description="nets that are compared")
    seeds: int = Field(2, ge=1, description="repetitions; intervals are over these")
    first_seed: int = Field(0, ge=0, description="the first of the seeds")
    extra_arm: list[str] = Field(
        ["mean_field_epoch", "mean_field_tau0.1"], description="nets that are shown beside them"
    )
    extra_seeds: int = Field(1, ge=0, description="seeds of the extra arms: the first of the seeds")
    train_size: int | None = Field(100, ge=2, description="training images; null: all that validation leaves")
    validation: int = Field(100, ge=0, description="validation images; their error is tabled, they choose nothing")
    test_size: int | None = Field(100, ge=1, description="test images; null: all")
    pool: int = Field(1, ge=1, description="side of the squares of pixels that images are averaged over")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where it is computed")
    bf16: bool = Field(False, description="products in bfloat16")
    training: dict[str, Any] = Field({}, description="settings of `train` that differ from the recipe of the data set")

    @field_validator("arm", "extra_arm")
    @classmethod
    def readable(cls, names: list[str]) -> list[str]:
        """Refuse names that are no arms."""
        for name in names:
            read_arm(name)
        return names

    @field_validator("training")
    @classmethod
    def allowed(cls, training: dict[str, Any]) -> dict[str, Any]:
        """Refuse what the statement's own settings decide."""
        if taken := OWN & training.keys():
            raise UserError(f"training cannot set {', '.join(sorted(taken))}: set it outside of training, if at all")
        return training

    def settings(self) -> dict[str, Any]:
        """Settings of `train` that all arms share."""
        own = ("dataset", "data_dir", "train_size", "validation", "test_size", "device", "bf16")
        small = SMOKE if self.dataset == "digits" else {}
        return {**small, **self.training, **{name: getattr(self, name) for name in own}}


def points(config: Config) -> list[dict[str, Any]]:
    """The arms seed after seed, then the extra ones, so that a run cut short is a whole one of fewer seeds or arms."""
    plans = ((config.seeds, config.arm), (min(config.extra_seeds, config.seeds), config.extra_arm))
    return [
        {"seed": config.first_seed + number, "arm": arm}
        for seeds, arms in plans
        for number in range(seeds)
        for arm in arms
    ]
