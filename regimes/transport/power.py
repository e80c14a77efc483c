"""Statistical power of the tests: which departures from T, of the size of its displacements, they would have seen.

The alternatives are maps that are known not to be optimal: T with a rotation field added, with displacements exchanged
between points, with noise. In many dimensions the discrete gap is blind: any displacement shorter than the gaps between
points leaves the identity pairing optimal. A gap of 0 is worth as much as the smallest departure that would have shown.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes import checks
from regimes.checks import positive, time_limit
from regimes.modules.jacobian import Map
from regimes.transport.brenier import brenier_test, by_point, check_map, probed, ratio, require_maps, widened
from regimes.transport.cost import Others, Points, as_array, as_pairing, check_exponent
from regimes.transport.pairing import Gap, exact_gap
from regimes.transport.showing import Shown, check_progress
from regimes.transport.span import span
from regimes.transport.units import unit_of

LARGE = 0.5  # of the displacement: an altered map that a test must see if its silence is to count
SEEN = 1e-6  # relative gap that counts as seen; certificates are proved to 1e-9
AMPLITUDES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02)
PLANES = 32  # in which the rotation field turns; d/2 are all there are, and d² numbers are too many for images
PROBES = 8
PROBED = 2**20  # numbers in the states at which the Brenier test is run, 64 points at least
Departure = Callable[[Tensor, Tensor, float, torch.Generator], Tensor]


class Departed(NamedTuple):
    """One altered map: amplitude relative to the size of the displacement, and what each test says of it.

    `size` is ‖altered T − T‖ over ‖T − id‖, root mean squares: a kind may alter little, as an exchange of displacements
    that are all alike. `relative_gap` is None where it was not needed: a larger amplitude leaves no gap.
    """

    name: str
    amplitude: float
    size: float
    relative_gap: float | None
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

    @property
    def unseen(self) -> list[str]:
        """Kinds of departure as large as the displacement itself (half of it at least) that leave no gap.

        Where there is one, a gap of 0 is no evidence: it would be 0 for a map that is as wrong as that too.
        """
        large = {entry.name for entry in self.departed if entry.size >= LARGE}
        return [name for name, least in self.gap_sees.items() if least is None and name in large]

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


class Rotation(NamedTuple):
    """Field z ↦ (z − mean) S with the skew matrix S = A Bᵀ − B Aᵀ."""

    mean: Float[Tensor, "d"]
    a: Float[Tensor, "d planes"]
    b: Float[Tensor, "d planes"]

    def turn(self, v: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        """v S: the field's derivative in the direction v; that of its transpose is −v S."""
        flat = v.flatten(1)
        return ((flat @ self.a) @ self.b.T - (flat @ self.b) @ self.a.T).reshape(v.shape)

    def field(self, z: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        """The field itself."""
        return self.turn((z.flatten(1) - self.mean).reshape(z.shape))


def rotation(x: Float[Tensor, "n d"], generator: torch.Generator) -> Rotation:
    """Rotation field about the mean, in random planes, of root mean square size 1 on these points."""
    shape = (2, x.shape[1], PLANES)
    a, b = torch.randn(shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
    drawn = Rotation(x.mean(0), a, b)
    size = displacement_size(torch.zeros_like(x), drawn.field(x))
    if size == 0:
        raise ValueError(
            f"a rotation field needs two features and points that differ; got {len(x)} points in d = {x.shape[1]}."
        )
    return drawn._replace(b=b / size)


def rotated(x: Tensor, t: Tensor, amplitude: float, generator: torch.Generator) -> Tensor:
    """T + ε s (x − mean) S with S from `rotation`, s the displacement size: a divergence-free addition."""
    return t + amplitude * displacement_size(x, t) * rotation(x, generator).field(x)


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
    t_of_x: Others,
    *,
    generator: torch.Generator,
    p: float = 2.0,
    transport_map: Map | None = None,
    amplitudes: Sequence[float] = AMPLITUDES,
    departures: dict[str, Departure] | None = None,
    seconds: float = math.inf,
    device: torch.device | str = "cpu",
    own: Gap | None = None,
    at: Float[Tensor, "k ..."] | None = None,
    progress: Callable[[str], None] = lambda name: None,
    solves: bool | Shown = False,
) -> Power:
    """Run the tests on altered maps of several amplitudes (relative to the displacement size).

    Every altered map costs one exact solve of n points, from the largest amplitude down to the first at which the gap
    sees nothing; `seconds` bounds each, and a gap counts as far as it is proved. With `transport_map` (on rows of x,
    flattened or not, as x is shaped) the Brenier test is run on T plus the rotation field too, at all amplitudes and
    at the first PROBED / d points (or at the points `at`, in the precision of the map). `own` is the gap of T where it
    is known already. In d = 1 there is no rotation. `progress` is called with each kind before its solves;
    `solves` is the `progress` of each solve, as `exact_transport` takes it.
    """
    p = check_exponent(p, "power")
    x_array, t_array = as_pairing("power", p, any_size=True, x=x, t_of_x=t_of_x)
    checks.generator("power", generator)
    time_limit("power", seconds)
    checks.device("power", device)
    checks.function("power", progress=progress)
    check_progress("power", solves, "solves")
    if not isinstance(amplitudes, Sequence) or isinstance(amplitudes, str) or len(amplitudes) == 0:
        raise ValueError(f"power needs at least one amplitude, in a list or tuple; got {amplitudes!r}.")
    for amplitude in amplitudes:
        positive("power", "every amplitude", amplitude)
    unit = unit_of(x_array, t_array, p)
    x_array, t_array = x_array / unit, t_array / unit
    x_flat, t_flat = torch.from_numpy(x_array), torch.from_numpy(t_array)
    scale = displacement_size(x_flat, t_flat)
    if scale == 0:
        raise ValueError(
            "power needs a map that moves points; every T(x) equals x here. The identity is optimal: leave power out."
        )
    kinds = DEPARTURES if departures is None else departures
    if x_flat.shape[1] == 1:
        kinds = {name: kind for name, kind in kinds.items() if kind is not rotated}
    short = span(x_array)

    def gap_of(targets: Tensor) -> Gap:
        near = (x_flat, targets) if short is None else (short.x_short, short.images(targets.numpy()))
        return exact_gap(*near, p, seconds=seconds, device=device, progress=solves)

    base = (gap_of(t_flat) if own is None else own).relative_low
    tests = {}
    if transport_map is not None and rotated in kinds.values():
        points = x.detach() if isinstance(x, Tensor) else torch.from_numpy(as_array(x, "x", "power").copy())
        some = points[: max(64, PROBED // x_flat.shape[1])] if at is None else at.detach()
        tests = _rotations(in_unit(transport_map, unit), some / unit, scale, amplitudes, p, generator)
    departed = []
    for name, kind in kinds.items():
        progress(name)
        blind = False
        for amplitude in sorted(amplitudes, reverse=True):
            found = tests.get(amplitude, (None, None)) if kind is rotated else (None, None)
            if blind and found == (None, None):
                break
            altered = kind(x_flat, t_flat, amplitude, generator)
            gap = None if blind else gap_of(altered)
            relative = None if gap is None else gap.relative_low
            size = displacement_size(t_flat, altered) / scale
            certified = gap is not None and gap.certified
            departed.append(Departed(name, float(amplitude), size, relative, certified, *found))
            blind = relative is None or relative - base <= SEEN
    gap_sees = {name: _least(departed, name, lambda d: (d.relative_gap or 0.0) - base > SEEN) for name in kinds}
    brenier_sees = {}
    if tests:
        name = next(name for name, kind in kinds.items() if kind is rotated)
        brenier_sees[name] = _least(departed, name, lambda d: _stands_out(d, tests[0.0]))
    return Power(tuple(departed), gap_sees, brenier_sees, *x_flat.shape)


def in_unit(transport_map: Map, unit: float) -> Map:
    """The same map of points that are measured in another unit of length."""
    return transport_map if unit == 1 else lambda z: transport_map(z * unit) / unit


def _rotations(
    transport_map: Map, x: Tensor, scale: float, amplitudes: Sequence[float], p: float, generator: torch.Generator
) -> dict[float, tuple[float, float]]:
    """Asymmetry and its error of T (amplitude 0) and of T plus the rotation field."""
    require_maps(transport_map)
    if x.dtype in (torch.float16, torch.bfloat16):
        x, transport_map = x.float(), widened(transport_map)
    turned = rotation(x.flatten(1), generator)
    strengths = {amplitude: amplitude * scale for amplitude in (0.0, *amplitudes)}
    if p != 2:  # the curvature of the cost follows the altered displacement: every amplitude anew

        def altered(strength: float) -> Map:
            return lambda z: transport_map(z.clone()) + strength * turned.field(z)

        tests = {
            amplitude: brenier_test(altered(strength), x[:64], generator=generator, p=p, eigen_points=0)
            for amplitude, strength in strengths.items()
        }
        return {amplitude: (test.asymmetry, test.asymmetry_se) for amplitude, test in tests.items()}
    check_map(transport_map, x)
    skew, symmetric = {amplitude: [] for amplitude in strengths}, []
    with torch.no_grad():
        for products, v in probed(transport_map, x, p=p, probes=PROBES, generator=generator):
            forward, backward, turn = products.forward(v), products.backward(v), turned.turn(v)
            symmetric.append((forward + backward).flatten(1).square().sum(1))
            for amplitude, strength in strengths.items():
                skew[amplitude].append((forward - backward + 2 * strength * turn).flatten(1).square().sum(1))
    below = by_point(symmetric, PROBES)
    return {amplitude: ratio(by_point(parts, PROBES), below) for amplitude, parts in skew.items()}


def _stands_out(departed: Departed, own: tuple[float, float]) -> bool:
    """Asymmetry above the map's own by five standard errors and by more than the rounding of float32, squared."""
    if departed.asymmetry is None or departed.asymmetry_se is None:
        return False
    error = math.hypot(departed.asymmetry_se, own[1])
    return departed.asymmetry - own[0] > max(5 * error, 1e-12)


def _least(departed: Sequence[Departed], name: str, seen: Callable[[Departed], bool]) -> float | None:
    """Smallest amplitude such that it and all larger ones are seen."""
    least = None
    for entry in sorted((d for d in departed if d.name == name), key=lambda d: -d.amplitude):
        if not seen(entry):
            break
        least = entry.amplitude
    return least
