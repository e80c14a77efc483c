"""Square risk of two-layer nets and its gradient by hand, for a whole ensemble of runs in few matrix products."""

import math
from collections.abc import Iterator, Sequence
from copy import copy

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.activations import Activation, require_activation
from regimes.checks import alike, counts, finite, positive, real, shapes
from regimes.meanfield import net_measure
from regimes.meanfield.layout import Tile, equal_members, tile_runs, tiles, versions
from regimes.meanfield.particles import Particles, require_particles, without_graph

# Up to this dimension inputs count as few.
_FEW = 128


class TwoLayerRisk:
    """F_α(a, b) = R(f)/α² of f = α (s Σ_j a_j σ(b_j·x) − f_0), with R(f) = 1/(2n) Σ_i ‖f(x_i) − y_i‖².

    Factor ½, mean over samples, sum over outputs; s = `scale`, 1/m unless given; f_0 = `offset`, zero unless given.
    Runs share data by groups: x is (groups, n, d), and equally many runs belong to each group, group after group
    (`members` lists the sizes where they differ). y is (groups, n, k), or (runs, n, k). alpha: one number, or one a run
    (kept as (runs, 1, 1)). An instance keeps its work memory between calls: it must not be used by two threads at once.
    What is written into x, y and offset later counts from the next call on. Gradients are by hand: autograd sees none.
    Source: [ChizatOyallonBach2019] section 2.
    """

    # A functional of measures too.
    value, variation = net_measure.value, net_measure.variation
    value_and_forces, forces_at = net_measure.value_and_forces, net_measure.forces_at
    at_least = 0.0

    def __init__(
        self,
        x: Float[Tensor, "groups n d"],
        y: Float[Tensor, "groups_or_runs n k"],
        activation: Activation,
        *,
        scale: float | None = None,
        alpha: float | Float[Tensor, " runs"] = 1.0,
        offset: Float[Tensor, "runs n k"] | None = None,
        members: Sequence[int] | None = None,
    ) -> None:
        self._require_data(x, y, offset)
        finite("TwoLayerRisk", x=x, y=y, offset=offset)  # σ may map inf to a plausible number
        require_activation(activation, "TwoLayerRisk")
        require_alpha("TwoLayerRisk", alpha)
        if scale is not None:
            positive("TwoLayerRisk", "scale", scale, single=True)
        if members is not None:
            members = counts("TwoLayerRisk", "members", members, len(x))
        self.activation, self.scale = activation, scale
        by_run = isinstance(alpha, Tensor) and alpha.ndim > 0
        self.alpha: float | Tensor = torch.as_tensor(alpha).to(x).reshape(-1, 1, 1) if by_run else float(alpha)
        self.members = None if members is None else list(members)
        self._memory: dict[str, Tensor] = {}
        self._set(x, y, offset)

    def _set(self, x: Tensor, y: Tensor, offset: Tensor | None) -> None:
        x, y, offset = x.detach(), y.detach(), None if offset is None else offset.detach()
        self._given, self._made_of = (x, y, offset), versions(x, y, offset)
        self.x, self.y, self.offset = x.contiguous(), y, offset
        self._targets = y.mT.contiguous()
        self._targets_by_run = len(y) != len(x)
        self._offset = None if offset is None else offset.mT.contiguous()
        # With few inputs the product of the transposes is up to three times faster on a CPU.
        few = self.x.device.type == "cpu" and self.x.shape[2] <= _FEW
        self._transposed = self.x.mT.contiguous() if few else None

    @staticmethod
    def _require_data(x: Tensor, y: Tensor, offset: Tensor | None) -> None:
        arrays = {"x": (x, "groups n d"), "y": (y, "rows n k"), "offset": (offset, "runs n k")}
        cure = "Inputs are (groups, n, d), targets (groups, n, k): x[None], y[None]"
        shapes("TwoLayerRisk", cure=cure, optional=("offset",), **arrays)
        real("TwoLayerRisk", x=x, y=y, offset=offset)
        if y.dtype != x.dtype or (offset is not None and offset.dtype != x.dtype):
            raise ValueError(
                "TwoLayerRisk needs inputs, targets and offset of one precision; "
                f"got x {x.dtype} and y {y.dtype}. Convert with .to()."
            )

    def outputs(
        self,
        particles: Particles,
        x: Float[Tensor, "groups other d"] | None = None,
        *,
        offset: Float[Tensor, "runs other k"] | None = None,
    ) -> Float[Tensor, "runs other k"]:
        """f of each run on the training inputs, or on other inputs x (with f_0 there, if the net has an offset)."""
        if x is not None and (offset is None) != (self.offset is None):
            raise ValueError(
                "outputs on new inputs needs the values of f_0 there exactly when the risk has an offset; "
                f"got offset={'None' if offset is None else 'a tensor'}. Pass the offset, or leave it out."
            )
        particles = self._taken(particles)
        if x is not None:
            arrays = {"x": (x, f"{len(self.x)} n {self.x.shape[2]}"), "offset": (offset, "runs n k")}
            shapes("TwoLayerRisk.outputs", cure="New inputs are (groups, n, d)", optional=("offset",), **arrays)
            alike("TwoLayerRisk.outputs", x=x, offset=offset, particles=particles.input)
            finite("TwoLayerRisk.outputs", x=x)
        centre = self._offset if x is None else None if offset is None else offset.detach().mT
        x = self.x if x is None else x.detach().contiguous()
        result = x.new_empty(particles.runs, particles.output.shape[2], x.shape[1])
        for tile in self._tiles(particles, x):
            net = particles.select(tile.runs)
            torch.bmm(net.output.mT, self._features(net, x[tile.groups])[0], out=result[tile.runs])
        result.mul_(self._scale(particles))
        return (result if centre is None else result.sub_(centre)).mul_(self.alpha).mT

    def risk(self, particles: Particles) -> Float[Tensor, " runs"]:
        """R(f): factor ½, mean over samples, sum over outputs; not divided by α²."""
        residuals = self.outputs(particles).mT
        for tile in self._tiles(particles, self.x):
            self._subtract_targets(residuals[tile.runs], tile)
        return residuals.square().sum((1, 2)) / (2 * residuals.shape[2])

    def gradient(self, particles: Particles, out: Particles | None = None) -> Particles:
        """Plain gradient of F_α = R(f)/α² in every weight; written to `out` if given."""
        return self.risk_and_gradient(particles, out)[1]

    def velocity(self, particles: Particles) -> Particles:
        """Particle flow −m ∇F_α: every neuron moves at O(1) speed, whatever m."""
        return self.risk_and_velocity(particles)[1]

    def risk_and_velocity(self, particles: Particles) -> tuple[Float[Tensor, " runs"], Particles]:
        """R(f) and −m ∇F_α from one pass."""
        risk, gradient = self.risk_and_gradient(particles)
        return risk, Particles(*(part.mul_(-particles.width) for part in gradient))

    def risk_and_gradient(
        self, particles: Particles, out: Particles | None = None
    ) -> tuple[Float[Tensor, " runs"], Particles]:
        """R(f) and the gradient of F_α from one pass."""
        particles = self._taken(particles)
        if out is None:
            out = Particles(*(part.new_empty(part.shape) for part in particles))
        risk = particles.output.new_empty(particles.runs)
        scale, n = self._scale(particles), self.x.shape[1]
        gain, share = scale * self.alpha, scale / n / self.alpha
        for tile in self._tiles(particles, self.x):
            runs, x = tile.runs, self.x[tile.groups]
            net, result = particles.select(runs), out.select(runs)
            features, preactivations = self._features(net, x)
            residuals = torch.bmm(net.output.mT, features)
            if self._offset is None:
                residuals.mul_(_of(gain, runs))
            else:
                residuals.mul_(scale).sub_(self._offset[runs]).mul_(_of(self.alpha, runs))
            self._subtract_targets(residuals, tile)
            torch.sum(residuals.square(), (1, 2), out=risk[runs])
            residuals.mul_(_of(share, runs))
            if residuals.shape[1] == 1:
                torch.bmm(residuals, features.mT, out=result.output.mT)
            else:
                torch.bmm(features, residuals.mT, out=result.output)
            self._input_gradient(net, tile, features, preactivations, residuals, result.input)
        return risk.div_(2 * n), out

    def replace(self, x: Float[Tensor, "groups n d"], y: Float[Tensor, "groups_or_runs n k"]) -> "TwoLayerRisk":
        """The same risk on other data, such as a fresh batch; refused with an offset, which belongs to its inputs."""
        if self.offset is not None:
            raise ValueError("replace needs a risk without offset; got one. Start from a doubled net instead.")
        self._require_data(x, y, None)
        other = copy(self)
        other._set(x, y, None)
        if self.members is not None and len(x) != len(self.members):
            raise ValueError(f"replace needs the {len(self.members)} groups of the risk; got {len(x)}.")
        return other

    def select(self, runs: Int[Tensor, " chosen"], *, of: int) -> "TwoLayerRisk":
        """The risk of some of the `of` runs, given by ascending index; groups that lose all their runs are dropped."""
        self._refresh()
        sizes = torch.tensor(self._sizes(of), device=runs.device)
        owner = torch.repeat_interleave(torch.arange(len(sizes), device=runs.device), sizes)
        members = torch.bincount(owner[runs], minlength=len(sizes))
        kept = members.nonzero().flatten()
        whole = len(kept) == len(sizes)
        other = copy(self)
        other.alpha, other.members = _of(self.alpha, runs), members[kept].tolist()
        other._set(
            self.x if whole else self.x[kept],
            self.y[runs] if self._targets_by_run else self.y if whole else self.y[kept],
            None if self.offset is None else self.offset[runs],
        )
        return other

    def _scale(self, particles: Particles) -> float:
        return 1 / particles.width if self.scale is None else self.scale

    def _refresh(self) -> None:
        """Make again what is kept of the data if they were written into."""
        if versions(*self._given) != self._made_of:
            self._set(*self._given)

    def _taken(self, particles: Particles) -> Particles:
        """The particles without their graph; refuse such as do not fit the data. Costs microseconds."""
        self._refresh()
        self._require(particles)
        return without_graph(particles)

    def _require(self, particles: Particles) -> None:
        """Refuse particles that do not fit inputs, targets and what is given run by run; costs a microsecond."""
        d, k, dtype = self.x.shape[2], self._targets.shape[1], self.x.dtype
        try:
            runs, m, _ = particles.output.shape
            fits = particles.output.shape[2] == k and particles.input.shape == (runs, m, d)
            fits = fits and particles.output.dtype == particles.input.dtype == dtype
        except (AttributeError, ValueError):
            runs, fits = 0, False
        if not fits:
            require_particles("TwoLayerRisk", particles, d=d, k=k, like=self.x)
        given = {"alpha": self.alpha, "offset": self.offset, "y": self.y if self._targets_by_run else None}
        for name, values in given.items():
            if isinstance(values, Tensor) and len(values) != runs:
                raise ValueError(
                    f"TwoLayerRisk needs {name} for each of the {runs} runs of the particles; got {len(values)}. "
                    "Repeat it, or pass one for all."
                )

    def _sizes(self, runs: int) -> list[int]:
        sizes = equal_members(self.x.shape[0], runs) if self.members is None else self.members
        if sum(sizes) != runs:
            raise ValueError(f"TwoLayerRisk needs the {sum(sizes)} runs it was made for; got particles of {runs}.")
        return sizes

    def _tiles(self, particles: Particles, x: Tensor) -> Iterator[Tile]:
        return tiles(self._sizes(particles.runs), tile_runs(particles.width * x.shape[1], x.dtype, x.device))

    def _work(self, name: str, *shape: int) -> Tensor:
        size = math.prod(shape)
        memory = self._memory.get(name)
        # A risk made by `replace` shares this memory, and may be of another precision.
        if memory is None or memory.shape[0] < size or memory.dtype != self.x.dtype:
            self._memory[name] = memory = self.x.new_empty(size)
        return memory[:size].view(shape)

    def _features(self, net: Particles, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """σ(b_j·x_i) as (runs, m, n), and b_j·x_i where the derivative needs it (else its memory holds σ)."""
        (runs, m, d), (groups, n, _) = net.input.shape, x.shape
        before = self._work("preactivations", runs, m, n)
        if groups == 1:
            torch.mm(net.input.reshape(-1, d), x[0].T, out=before.view(-1, n))
        else:
            torch.bmm(net.input.reshape(groups, -1, d), x.mT, out=before.view(groups, -1, n))
        if self.activation.write is None or self.activation.pull is None:
            return self.activation.value(before), before
        return self.activation.write(before, before), None

    def _subtract_targets(self, residuals: Tensor, tile: Tile) -> None:
        if self._targets_by_run:
            residuals.sub_(self._targets[tile.runs])
        else:
            targets = self._targets[tile.groups]
            residuals.view(targets.shape[0], -1, *targets.shape[1:]).sub_(targets[:, None])

    def _input_gradient(
        self, net: Particles, tile: Tile, features: Tensor, before: Tensor | None, residuals: Tensor, out: Tensor
    ) -> None:
        """out_j = Σ_i (a_j·r_i) σ'(b_j·x_i) x_i; the memory of the features is used up."""
        runs, m, n = features.shape
        one = residuals.shape[1] == 1  # then a_j is a factor of the whole sum
        upstream = residuals
        if not one:
            upstream = torch.bmm(net.output, residuals, out=self._work("upstream", runs, m, n))
        pull = self.activation.pull
        if before is None:
            assert pull is not None
            pulled = pull(upstream, features, features)
        else:
            pulled = self.activation.derivative(before).mul_(upstream)  # without fast forms `before` is kept
        x = self.x[tile.groups]
        groups, _, d = x.shape
        pulled, target = pulled.view(groups, -1, n), out.view(groups, -1, d)
        weights = net.output.reshape(groups, -1, 1) if one else None
        if self._transposed is not None:
            back = self._work("transposed", groups, d, pulled.shape[1])
            torch.bmm(self._transposed[tile.groups], pulled.mT, out=back)
            target.copy_(back.mT) if weights is None else torch.mul(back.mT, weights, out=target)
        else:
            torch.bmm(pulled, x, out=target)
            if weights is not None:
                target.mul_(weights)


def require_alpha(caller: str, alpha: float | Tensor) -> None:
    """Refuse scales that are not positive, or tensors of them that are not one a run."""
    if isinstance(alpha, np.ndarray):
        raise ValueError(f"{caller} needs alpha as a number or a tensor; got an array. Use torch.as_tensor.")
    positive(caller, "alpha", alpha)
    if isinstance(alpha, Tensor) and alpha.ndim:
        shapes(caller, alpha=(alpha, "runs"), cure="Pass one scale, or one a run")


def _of(values: float | Tensor, runs: Tensor | slice) -> float | Tensor:
    return values[runs] if isinstance(values, Tensor) else values
