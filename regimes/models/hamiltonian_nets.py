"""Networks whose blocks are steps of a Hamiltonian system, between the encoder and the head of ResNet9."""

from math import prod

from torch import nn

from regimes.activations import activation as activation_of
from regimes.checks import count, counts
from regimes.control.tableau import IMPLICIT_MIDPOINT, PAIRS, Pair, Tableau
from regimes.models.hamiltonian_blocks import hamiltonian_convolution, hamiltonian_dense
from regimes.models.image_nets import Shape, encoder_of, head_of
from regimes.models.residual import ResidualNet, Segment

METHODS: dict[str, Pair | Tableau] = {
    each.name.lower().replace("ö", "o").replace("-", "_").replace(" ", "_"): each
    for each in (*PAIRS, IMPLICIT_MIDPOINT)
}
SYSTEMS = ("symmetric", "second_order")


def hamiltonian_net(
    shape: Shape,
    classes: int,
    *,
    filters: int = 32,
    blocks: int = 9,
    hidden: int | None = None,
    system: str = "symmetric",
    method: str = "symplectic_euler",
    step: float = 0.25,
    activation: str = "relu",
    head: str = "two_layer",
    downsample: bool | None = None,
) -> ResidualNet:
    """`blocks` steps of h = `step` of a Hamiltonian system on `filters` channels, half of them z, half p.

    system: "symmetric" is z' = A1ᵀσ(A1 p + b1), p' = −A2ᵀσ(A2 z + b2), "second_order" z″ = −Aᵀσ(Az + b), each block
    with its own A. They are convolutions to `hidden` channels on images, else dense. hidden None: 2·filters, or
    4·filters with a single A, so that a block has the weights of one of ResNet9 with as many filters.
    Encoder and head are those of ResNet9; for other inputs a linear map to `filters` features. Source:
    [Celledoni2021]; [Karkar2020] for encoder and head.
    """
    for name, value, known in (("system", system, SYSTEMS), ("method", method, METHODS)):
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"hamiltonian needs {name} as one of {', '.join(known)}; got {value!r}.")
    count("hamiltonian", "classes", classes)
    count("hamiltonian", "blocks", blocks)
    if count("hamiltonian", "filters", filters) % 2:
        raise ValueError(f"hamiltonian needs even filters, for the halves z and p; got {filters}. Change filters.")
    symmetric = system == "symmetric"
    hidden = (2 if symmetric else 4) * filters if hidden is None else hidden
    features, image = prod(counts("hamiltonian", "shape", shape)), len(shape) == 3
    if image:
        encoder, places = encoder_of(shape, classes, filters, downsample)
    else:
        encoder, places = nn.Sequential(nn.Flatten(), nn.Linear(features, filters)), 1
    block = hamiltonian_convolution if image else hamiltonian_dense
    options = {"activation": activation_of(activation), "symmetric": symmetric, "method": METHODS[method], "size": step}
    segment = Segment(block(filters, hidden, **options) for _ in range(blocks))
    return ResidualNet(encoder, [segment], head_of(head, filters * places, classes))
