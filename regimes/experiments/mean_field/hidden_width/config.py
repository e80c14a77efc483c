"""Settings of the hidden width of deep nets, and its grid: the defaults are a smoke run of seconds."""

from typing import Annotated, Any

from pydantic import Field

from regimes.lab.config import Settings

Count = Annotated[int, Field(ge=1)]
BOX, NARROW, SQUARE = "box", "narrow", "square"
LEAST = 2  # neurons of the whole net for each dimension of the embedding, in the box


class Config(Settings):
    """Shapes, sizes and the course of training; configs/hidden_width.yaml is the real size."""

    layers: tuple[Count, ...] = Field((16, 64), min_length=1, description="depths L of the box of shapes")
    width: tuple[Count, ...] = Field((1, 8), min_length=1, description="hidden widths M of the box")
    inputs: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (4, 16), min_length=1, description="embeddings D of the box"
    )
    narrow_layers: tuple[Count, ...] = Field((8, 32), description="depths L of nets with M = 1, beside their limit")
    square_layers: tuple[Count, ...] = Field((4, 16), description="depths L = M of nets beside their limit")
    embedding: int = Field(4, ge=2, description="embedding D of the nets beside their limit")
    seeds: int = Field(2, ge=1, description="repetitions: samples and nets drawn afresh")
    beside_seeds: int = Field(2, ge=1, description="repetitions, among these, of the nets beside their limit")
    first_seed: int = Field(0, ge=0, description="seed of the first; a pilot takes others than the run")
    replicas: int = Field(4, ge=2, description="nets of the box on the same samples; they differ by what fluctuates")
    many_replicas: int = Field(8, ge=2, description="the same of the nets beside their limit")
    samples: int = Field(3, ge=1, description="samples n")
    steps: int = Field(4, ge=1, description="steps of gradient descent after which the nets are compared again")
    rate: float = Field(
        0.5, gt=0, description="step of gradient descent, in units of the limit: L M times the usual one"
    )
    cells: int = Field(
        2, ge=1, description="blocks of the nets from which the limit is extrapolated, with 2 and 4 times"
    )
    power: int = Field(6, ge=2, description="2^power points stand for the law of a neuron where they are few")


def points(config: Config) -> list[dict[str, Any]]:
    """The box without the shapes of fewer than two neurons for each dimension, then the nets beside their limit."""
    box = [
        (BOX, layers, width, inputs)
        for layers in config.layers
        for width in config.width
        for inputs in config.inputs
        if LEAST * inputs <= layers * width
    ]
    narrow = [(NARROW, layers, 1, config.embedding) for layers in config.narrow_layers]
    square = [(SQUARE, layers, layers, config.embedding) for layers in config.square_layers]
    return [
        {"shapes": shapes, "layers": layers, "width": width, "inputs": inputs, "seed": seed}
        for shapes, layers, width, inputs in (*box, *narrow, *square)
        for seed in range(config.seeds if shapes == BOX else min(config.seeds, config.beside_seeds))
    ]
