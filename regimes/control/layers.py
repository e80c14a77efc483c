"""A network as the steps of a method: layer l moves the state by z' = f(t, z, θ_l), with θ_l fixed within the layer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from regimes.checks import alike, count, function, given, kind, positive, real, shapes
from regimes.control.stepper import Step, step
from regimes.control.tableau import Tableau

Params = dict[str, Tensor]
# f(t, z, θ), of the shape of z.
LayerField = Callable[[float, Tensor, Params], Tensor]


class Layers(NamedTuple):
    """The field, the parameters of each layer, and how they are stepped through.

    horizon: T, the time of all layers together; each has T/L of it, in `substeps` steps of the tableau.
    """

    field: LayerField
    params: Sequence[Params]
    tableau: Tableau
    horizon: float = 1.0
    substeps: int = 1

    @property
    def size(self) -> float:
        """h, the length of a step."""
        return self.horizon / (len(self.params) * self.substeps)

    def places(self) -> "Places":
        """(layer, time at its beginning) of each step."""
        return Places(len(self.params) * self.substeps, self.substeps, self.size)

    def steps(self, z: Float[Tensor, "n *feature"]) -> Iterator[Step]:
        """Each step's end and the velocities at its stages, one after the other."""
        for layer, time in self.places():
            taken = self.step(layer, time, z)
            yield taken
            (z,) = taken.end

    def step(self, layer: int, time: float, z: Tensor) -> Step:
        """The step of a layer that begins at a time in z."""
        return step(self.at(layer), self.tableau, time, (z,), self.size)

    def at(self, layer: int) -> Callable:
        """The field of one layer on states of one tensor."""
        params = self.params[layer]
        return lambda time, parts: (self.velocity(time, parts[0], params),)

    def velocity(self, time: float, z: Tensor, params: Params) -> Tensor:
        """f(t, z, θ). ValueError: it is not of the shape and dtype of z; a sum of the two would broadcast."""
        moved = self.field(time, z, params)
        if not isinstance(moved, Tensor) or moved.shape != z.shape or moved.dtype != z.dtype:
            got = f"{tuple(moved.shape)} {moved.dtype}" if isinstance(moved, Tensor) else type(moved).__name__
            raise ValueError(
                f"Layers needs a field of the shape and dtype of the state, {tuple(z.shape)} {z.dtype}; got {got}. "
                "A sum would broadcast."
            )
        return moved

    def end(self, z: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        """The state after the last layer."""
        for taken in self.steps(z):
            (z,) = taken.end
        return z


class Places(Sequence[tuple[int, float]]):
    """(layer, time at its beginning) of each step, made when asked for: a list would grow with the depth."""

    def __init__(self, steps: int | range, substeps: int, size: float) -> None:
        self._steps = range(steps) if isinstance(steps, int) else steps
        self._substeps, self._size = substeps, size

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return Places(self._steps[place], self._substeps, self._size)
        number = self._steps[place]
        return number // self._substeps, number * self._size


def require_layers(caller: str, layers: Layers, z: Tensor) -> None:
    """Refuse layers without parameters, tensors of several precisions, and impossible times.

    What the field gives is looked at where it is called, see `Layers.velocity`.
    """
    kind(caller, "layers", layers, Layers, "Layers(field, params, tableau)")
    given(caller, field=layers.field)
    function(caller, field=layers.field)
    kind(caller, "tableau", layers.tableau, Tableau, "a Tableau such as KUTTA4")
    positive(caller, "horizon", layers.horizon, single=True)
    count(caller, "substeps", layers.substeps)
    kind(caller, "params", layers.params, Sequence, "a list of dicts, one for each layer")
    if not layers.params:
        raise ValueError(f"{caller} needs the parameters of at least one layer; got none. Pass [params].")
    shapes(caller, z=(z, "n *_"), cure="The first axis of a state is that of the samples")
    real(caller, z=z)
    for layer, params in enumerate(layers.params):
        kind(caller, f"params[{layer}]", params, Mapping, "a dict of tensors by name")
        for name, each in params.items():
            if not isinstance(each, Tensor) or each.dtype != z.dtype or each.device != z.device:
                own: dict[str, Any] = {f"params[{layer}][{name!r}]": each}
                real(caller, **own)
                alike(caller, z=z, **own)
