"""What the tests could have seen: their verdict on maps of the same displacement size that are known not to be optimal.

In many dimensions the discrete gap is blind: any displacement shorter than the gaps between points leaves the identity
pairing optimal. A gap of 0 is worth as much as the smallest departure that would have shown.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from regimes.transport.brenier import BrenierTest, Map, brenier_test
from regimes.transport.cost import Points, as_matrix
from regimes.transport.gap import ot_gap

SEEN = 1e-6  # relative gap that counts as seen; certificates are proved to 1e-9
AMPLITUDES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02)
Departure = Callable[[Tensor, Tensor, float, torch.Generator], Tensor]


class Departed(NamedTuple):
    """One altered map: amplitude relative to the size of the displacement, and what each test says of it."""

    name: str
    amplitude: float
    relative_gap: float
    gap_certified: bool
    asymmetry: float | None
    asymmetry_se: float | None


class Power(NamedTuple):
    """All altered maps, and for each kind the smallest amplitude from which on a test sees it, None if it never does.

    `gap_sees` uses relative gap − own relative gap > 1e-6. `brenier_sees` uses asymmetry − own asymmetry above five
    standard errors of both and above rounding; only the rotation field has a Jacobian, so it holds that kind only.
    """

    departed: tuple[Departed, ...]
    gap_sees: dict[str, float | None]
    brenier_sees: dict[str, float | None]
    points: int
    dim: int

    def line(self) -> str:
        """The power in words, one line."""

        def say(name: str, least: float | None) -> str:
            return f"{name} from {least:g}" if least is not None else f"no {name}"

        gap = ", ".join(say(name, least) for name, least in self.gap_sees.items())
        text = f"with {self.points} points in d = {self.dim} the gap sees {gap}"
        if self.brenier_sees:
            text += "; the Brenier test sees " + ", ".join(say(name, s) for name, s in self.brenier_sees.items())
        return text + " (in units of the root mean square displacement)"


def displacement_size(x: Float[Tensor, "n d"], t: Float[Tensor, "n d"]) -> float:
    """Root mean square displacement (1/n Σ_i ‖t_i − x_i‖²)^½."""
    return math.sqrt(float((t - x).square().sum(1).mean()))


def rotation(x: Float[Tensor, "n d"], generator: torch.Generator) -> Float[Tensor, "d d"]:
    """Skew matrix S, drawn at random, scaled so that the field (x − mean) S has root mean square size 1."""
    d = x.shape[1]
    draw = torch.randn(d, d, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
    skew = draw - draw.T
    size = displacement_size(torch.zeros_like(x), (x - x.mean(0)) @ skew)
    if size == 0:
        raise ValueError(f"a rotation field needs two features and points that differ; got {len(x)} points in d = {d}.")
    return skew / size


def rotated(x: Tensor, t: Tensor, amplitude: float, generator: torch.Generator) -> Tensor:
    """T + ε s (x − mean) S with S from `rotation`, s the displacement size: a divergence-free addition."""
    return t + amplitude * displacement_size(x, t) * (x - x.mean(0)) @ rotation(x, generator)


def shuffled(x: Tensor, t: Tensor, amplitude: float, generator: torch.Generator) -> Tensor:
    """x + (1 − ε) own displacement + ε displacement of another point."""
    order = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)
    displacement = t - x
    return x + (1 - amplitude) * displacement + amplitude * displacement[order]


def noisy(x: Tensor, t: Tensor, amplitude: float, generator: torch.Generator) -> Tensor:
    """T + ε s noise, Gaussian with root mean square norm 1 over all features."""
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
    return t + amplitude * displacement_size(x, t) * noise / math.sqrt(x.shape[1])


DEPARTURES: dict[str, Departure] = {"rotation": rotated, "shuffled displacements": shuffled, "noise": noisy}


def power(
    x: Points,
    t_of_x: Float[Tensor, "m *other"] | Float[np.ndarray, "m *other"],
    *,
    generator: torch.Generator,
    p: float = 2.0,
    transport_map: Map | None = None,
    amplitudes: Sequence[float] = AMPLITUDES,
    departures: dict[str, Departure] | None = None,
    seconds: float = math.inf,
) -> Power:
    """Run the tests on altered maps of several amplitudes (relative to the displacement size).

    Every altered map costs one exact solve of n points. With `transport_map` (on rows of x, flattened or not, as x is
    shaped) the Brenier test is run on T plus the rotation field too. In d = 1 there is no rotation.
    """
    points = x.detach() if isinstance(x, Tensor) else torch.from_numpy(np.asarray(x, np.float64))
    x_flat, t_flat = (torch.from_numpy(as_matrix(cloud, name)) for cloud, name in ((x, "x"), (t_of_x, "t_of_x")))
    if displacement_size(x_flat, t_flat) == 0:
        raise ValueError("power needs a map that moves points: every T(x) equals x here.")
    kinds = DEPARTURES if departures is None else departures
    if x_flat.shape[1] == 1:
        kinds = {name: kind for name, kind in kinds.items() if kind is not rotated}
    own_gap = ot_gap(x_flat, t_flat, p, seconds=seconds)
    own = own_gap.gap_low / own_gap.cost_network
    tests = (
        {}
        if transport_map is None or rotated not in kinds.values()
        else _rotations(transport_map, points, displacement_size(x_flat, t_flat), amplitudes, p, generator)
    )
    departed = []
    for name, kind in kinds.items():
        for amplitude in amplitudes:
            gap = ot_gap(x_flat, kind(x_flat, t_flat, amplitude, generator), p, seconds=seconds)
            test = tests.get(amplitude) if kind is rotated else None
            relative = gap.gap_low / gap.cost_network if gap.cost_network > 0 else 0.0
            found = (None, None) if test is None else (test.asymmetry, test.asymmetry_se)
            departed.append(Departed(name, float(amplitude), relative, gap.certified, *found))
    gap_sees = {name: _least(departed, name, lambda d: d.relative_gap - own > SEEN) for name in kinds}
    brenier_sees = {}
    if tests:
        base = tests[0.0]
        name = next(name for name, kind in kinds.items() if kind is rotated)
        brenier_sees[name] = _least(departed, name, lambda d: _stands_out(d, base))
    return Power(tuple(departed), gap_sees, brenier_sees, *x_flat.shape)


def _rotations(
    transport_map: Map, x: Tensor, scale: float, amplitudes: Sequence[float], p: float, generator: torch.Generator
) -> dict[float, BrenierTest]:
    """Brenier tests of T (amplitude 0) and of T plus the rotation field."""
    centre, skew = x.flatten(1).mean(0), rotation(x.flatten(1), generator)

    def altered(amplitude: float) -> Map:
        def turned(z: Tensor) -> Tensor:
            return transport_map(z) + amplitude * scale * ((z.flatten(1) - centre) @ skew).reshape(z.shape)

        return turned

    return {a: brenier_test(altered(a), x, generator=generator, p=p, eigen_points=1) for a in (0.0, *amplitudes)}


def _stands_out(departed: Departed, own: BrenierTest) -> bool:
    """Asymmetry above the map's own by five standard errors and by more than the rounding of float32, squared."""
    if departed.asymmetry is None or departed.asymmetry_se is None:
        return False
    error = math.hypot(departed.asymmetry_se, own.asymmetry_se)
    return departed.asymmetry - own.asymmetry > max(5 * error, 1e-12)


def _least(departed: Sequence[Departed], name: str, seen: Callable[[Departed], bool]) -> float | None:
    """Smallest amplitude such that it and all larger ones are seen."""
    least = None
    for entry in sorted((d for d in departed if d.name == name), key=lambda d: -d.amplitude):
        if not seen(entry):
            break
        least = entry.amplitude
    return least
