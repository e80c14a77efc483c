"""Is a map an OT map? The exact gap on its points, Brenier's test of its Jacobian, their power, and the verdict."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from regimes import checks
from regimes.checks import count, fraction, time_limit
from regimes.modules.jacobian import Map
from regimes.transport.brenier import ALIKE, CONSTANT, BrenierTest, NoJacobianTest, brenier_test, called
from regimes.transport.cost import Others, Points, as_array, as_matrix, as_pairing, check_exponent
from regimes.transport.energy import Energy, Path, measure
from regimes.transport.pairing import Gap, exact_gap
from regimes.transport.power import Power, power
from regimes.transport.showing import Shown, check_progress
from regimes.transport.units import converted, unit_of
from regimes.transport.verdict import RELATIVE_GAP, Verdict, judge

Target = Others | Callable[[Tensor], Tensor]
# What rounding may make of the same point: a share of the size of the cloud, through layers, and of the point itself.
SAME = {32: (1e-4, 8e-6), 16: (0.05, 0.05)}  # in float32 and wider, and in 16 bits


class Assessment(NamedTuple):
    """What was found of a map, part by part; what was not asked for is None.

    `exact`: costs, gap, bracket and certificate on the points. `map`: Brenier's test of T; `map_missing` says why there
    is none although T is known. `path`: energies and straightness of the states. `power`: what the tests could have
    seen. `verdict` says it in words, `explanation` in a sentence with the numbers, `str()` in a few lines.
    """

    exact: Gap
    map: BrenierTest | None = None
    map_missing: str | None = None
    path: Energy | None = None
    power: Power | None = None

    @property
    def judgement(self) -> Verdict:
        """The verdict with its sentence and what each kind of evidence says."""
        return judge(self.exact, self.map, missing=self.map_missing, power=self.power)

    @property
    def verdict(self) -> str:
        """One of: "not optimal", "not a gradient map", "optimal as far as these tests see", "blind" or "undecided"."""
        return self.judgement.verdict

    @property
    def explanation(self) -> str:
        """The verdict as a sentence, with the numbers and thresholds that decide."""
        return self.judgement.words

    @property
    def cost_network(self) -> float:
        """Mean cost of the pairing x_i → T(x_i)."""
        return self.exact.cost_network

    @property
    def cost_ot(self) -> float | None:
        """Mean cost of the optimal pairing; None unless certified."""
        return self.exact.cost_ot

    @property
    def gap(self) -> float | None:
        """cost_network − cost_ot; None unless certified."""
        return self.exact.gap

    @property
    def relative_gap(self) -> float | None:
        """gap / cost_network; None unless certified."""
        return self.exact.relative_gap

    @property
    def certified(self) -> bool:
        """Whether the exact optimum is proved, over all pairs."""
        return self.exact.certified

    def __str__(self) -> str:
        judgement, gap = self.judgement, self.exact
        low, high = f"{gap.dual_value:.6g}", f"{gap.cost_ot_high:.6g}"
        optimum = f"{gap.cost_ot:.6g}, certified" if gap.cost_ot is not None else f"in [{low}, {high}]"
        relative = (
            f"{gap.relative_low:.3g}" if gap.certified else f"in [{gap.relative_low:.3g}, {gap.relative_high:.3g}]"
        )
        lines = [
            judgement.verdict,
            f"  {judgement.words}",
            f"  points x features  {gap.points} x {gap.dim}",
            f"  cost of T          {gap.cost_network:.6g}",
            f"  exact OT cost      {optimum}",
            f"  relative gap       {relative}",
        ]
        if self.map is not None:
            lines.append(f"  Brenier asymmetry  {self.map.asymmetry:.3g} ± {self.map.asymmetry_se:.1g}")
        if self.path is not None:
            lines.append(f"  straightness       {float(self.path.straightness):.3g}")
        if self.power is not None:
            lines.append(f"  power              {self.power.line()}")
        return "\n".join(lines)


def ot_gap(
    x: Points,
    target: Target,
    p: float = 2.0,
    *,
    transport_map: Map | None = None,
    path: Path | None = None,
    with_power: bool | None = None,
    generator: torch.Generator | None = None,
    tolerance: float = 1e-10,
    rounds: int = 100,
    seconds: float = math.inf,
    device: torch.device | str = "cpu",
    progress: bool | Shown = False,
) -> Assessment:
    """Is T an optimal-transport map on the points x, for the cost ‖x − y‖^p?

    `target` is the images T(x_i), a row a point; or T itself, a callable on batches such as a torch module, and then
    Brenier's test of its Jacobian comes along. With images, `transport_map` gives T too: T(x) has to be the images.
    `path`, the states z_0..z_L from x to T(x), adds energies and straightness.

    The gap is exact and certified, but in many dimensions a gap of 0 says little. How little is measured by default
    where no gap is found: `with_power` = None; 3 to 18 more solves of the same size (True: always, False: never, and
    then the verdict of a gap of 0 without T is "undecided"). `seconds` bounds each solve; beyond, a bracket is what is
    known. `generator` draws probes and departures (None: seed 0). `tolerance`, `rounds`, `device` and `progress`
    (of every solve) are those of `exact_transport`. A torch module sees x in its own precision and on its own device.
    """
    p = check_exponent(p, "ot_gap")
    fraction("ot_gap", "tolerance", tolerance)
    count("ot_gap", "rounds", rounds)
    time_limit("ot_gap", seconds)
    checks.device("ot_gap", device)
    check_progress("ot_gap", progress)
    if with_power is not None and not isinstance(with_power, bool):
        raise ValueError(f"ot_gap needs with_power as True, False or None; got {with_power!r}. Change with_power.")
    stream = torch.Generator().manual_seed(0) if generator is None else checks.generator("ot_gap", generator)
    known = _known(x, target, transport_map)
    points: Any = x
    images: Any = target
    if known is not None and callable(target):
        points, images = known.points, known.images
    x_array, t_array = as_pairing("ot_gap", p, any_size=True, x=points, target=images)
    if path is not None:
        _require_path(path, x, images)
    common: dict[str, Any] = {"seconds": seconds, "device": device}
    exact = exact_gap(x_array, t_array, p, tolerance=tolerance, rounds=rounds, progress=progress, **common)
    differ = bool((x_array != x_array[:1]).any())  # from one point alone nothing can be turned or dealt anew
    constant = bool((t_array == t_array[:1]).all())
    test, missing = None, ALIKE if not differ else CONSTANT if constant else None
    if known is not None:
        test, missing = _tested(known, stream, p)
    seen = None
    asked = exact.certified and exact.relative_low <= RELATIVE_GAP and differ if with_power is None else with_power
    if asked and exact.cost_network > 0:
        moved, at = (known.map, known.points) if known is not None and test is not None else (None, None)
        options = {"own": exact, "transport_map": moved, "at": at, "solves": progress, **common}
        seen = power(x_array, t_array, generator=stream, p=p, **options)
    energies = None if path is None else _energies(path, p, unit_of(x_array, t_array, p), exact.unit)
    return Assessment(exact, test, missing, energies, seen)


class _Known(NamedTuple):
    """A map that is known as a callable, the points as it takes them, and their images."""

    map: Map
    points: Tensor
    images: Tensor


def _known(x: Points, target: Target, transport_map: Map | None) -> _Known | None:
    """The map that came as the target or beside it; ValueError if it is not the map of these images."""
    as_matrix(x, "x", "ot_gap")
    if transport_map is not None and not callable(transport_map):
        kind = type(transport_map).__name__
        raise ValueError(f"ot_gap needs transport_map as a callable on batches; got {kind}. Pass T itself.")
    if isinstance(target, Tensor | np.ndarray | list | tuple) or not callable(target):
        as_matrix(target, "target", "ot_gap")
        if transport_map is None:
            return None
        points = _suited(x, transport_map)
        known = _Known(transport_map, points, _images(transport_map, points))
        _require_same(known.images, target, "transport_map(x)", "the images")
        return known
    if transport_map is not None:
        raise ValueError("ot_gap needs T once: as the target, or as transport_map beside the images; got it twice.")
    points = _suited(x, target)
    return _Known(target, points, _images(target, points))


def _suited(x: Points, transport_map: Map) -> Tensor:
    """The points as the map takes them: as tensors, for a module in its precision and on its device."""
    given = as_array(x, "x", "ot_gap")
    # A copy: what the map does to its argument stays there, and the caller's array may be read-only.
    points = given.detach() if isinstance(given, Tensor) else torch.from_numpy(np.array(given, order="C"))
    owner = getattr(transport_map, "__self__", transport_map)
    if isinstance(owner, nn.Module):
        first = next((value for value in owner.parameters() if value.is_floating_point()), None)
        points = points if first is None else points.to(first.device, first.dtype)
        if not _near(points, given, 2 * torch.finfo(points.dtype).eps):
            kind = str(points.dtype).removeprefix("torch.")
            raise ValueError(f"ot_gap needs points that {kind}, the precision of the map, can hold. Rescale both.")
    return points


def _images(transport_map: Map, points: Tensor) -> Tensor:
    image = called(transport_map, points, "ot_gap")
    if not isinstance(image, Tensor) or image.shape != points.shape:
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"ot_gap needs a map that keeps the shape of x, {tuple(points.shape)}; it returned {got}.")
    return image


def _near(one: Any, other: Any, share: float) -> bool:
    """Whether all coordinates agree up to a share of the largest."""
    a, b = (np.asarray(z.detach().cpu().double() if isinstance(z, Tensor) else z, np.float64) for z in (one, other))
    return bool((np.abs(a - b) <= share * np.abs(b).max(initial=0.0)).all())


def _require_path(path: Path, x: Points, images: Points) -> None:
    """ValueError unless the path is a sequence of states from x to the images."""
    if not isinstance(path, Tensor | Sequence) or isinstance(path, str) or (isinstance(path, Tensor) and path.ndim < 2):
        raise ValueError(f"ot_gap needs path as the states z_0..z_L, a tensor each; got {type(path).__name__}.")
    if len(path) < 2:
        raise ValueError(f"ot_gap needs the states z_0..z_L of the path, at least two; got {len(path)}.")
    _require_same(path[0], x, "the first state of the path", "x")
    _require_same(path[-1], images, "the last state of the path", "T(x)")


def _energies(path: Path, p: float, unit: float, shown: float) -> Energy:
    """Energies of a path in float64, computed in the unit in which they fit, and given in that of the costs."""
    found = measure([[_wide(state, unit) for state in path]], p=p)
    if unit == 1:
        return found
    if shown != 1:
        return found
    powers = {"distance": 1.0, "length": 1.0, "straightness": 0.0}
    back = {
        name: torch.as_tensor(converted(getattr(found, name).numpy(force=True), unit, powers.get(name, p)))
        for name in found._fields
    }
    return Energy(**back)


def _wide(state: Any, unit: float) -> Any:
    """A state in float64 over a unit; what is none is left for `measure` to refuse."""
    if isinstance(state, Tensor) and state.is_floating_point():
        return state.double() / unit
    return state.astype(np.float64) / unit if isinstance(state, np.ndarray) and state.dtype.kind == "f" else state


def _require_same(one: Any, other: Any, name: str, other_name: str) -> None:
    """ValueError unless both are the same cloud, point by point, up to rounding in float32."""
    a, b = as_matrix(one, name, "ot_gap"), as_matrix(other, other_name, "ot_gap")
    if a.shape != b.shape:
        how = f"shapes {a.shape} and {b.shape}"
    else:
        low = any(getattr(each, "dtype", None) in (torch.float16, torch.bfloat16) for each in (one, other))
        of_cloud, of_point = SAME[16 if low else 32]
        size = float(np.median(np.abs(b - np.median(b, 0)).max(1)))  # half of the points lie as far out: no outlier
        apart = np.abs(a - b).max(1)
        far = np.abs(b).max(1)
        if (apart <= np.minimum(of_cloud * size + of_point * far, of_cloud * far.max())).all():
            return
        how = f"they differ by {float(apart.max()):.3g}"
    raise ValueError(f"ot_gap needs {name} to be {other_name}, point by point; {how}. Give what belongs together.")


def _tested(known: _Known, stream: torch.Generator, p: float) -> tuple[BrenierTest | None, str | None]:
    try:
        return brenier_test(known.map, known.points, generator=stream, p=p), None
    except NoJacobianTest as error:
        return None, error.reason
