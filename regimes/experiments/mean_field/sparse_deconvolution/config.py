"""Settings of sparse deconvolution: the defaults are a smoke run of seconds."""

from typing import Annotated, Any, Literal

from pydantic import Field

from regimes.lab.config import Settings

SLIDING, BIRTHS, PARTICLES, CONE = "sliding Frank-Wolfe", "births and deaths", "particles", "cone"
POSITIVE, SIGNED = "positive", "signed"
Size = Annotated[int, Field(ge=1)]


class Config(Settings):
    """Problems, starts and descents; configs/sparse_deconvolution.yaml is the real size."""

    dim: tuple[Literal[1, 2], ...] = Field((1, 2), min_length=1, description="dimensions of the torus")
    spikes: tuple[Literal["positive", "signed"], ...] = Field(
        (POSITIVE, SIGNED), min_length=1, description="signs of the masses"
    )
    particles_1d: tuple[Size, ...] = Field((4, 20), description="numbers m of particles on the circle")
    particles_2d: tuple[Size, ...] = Field((4,), description="numbers m of particles on the torus of two dimensions")
    seeds: int = Field(4, ge=1, description="trials: problems drawn afresh")
    first_seed: int = Field(0, ge=0, description="the first one; pilots have others")
    m0: int = Field(3, ge=1, description="spikes to find")
    order: int = Field(7, ge=1, description="order n of the Dirichlet kernel")
    separation: float = Field(0.1, ge=0, description="least distance of two spikes")
    share: float = Field(
        0.01, gt=0, description="λ over the height (2n+1)^d of the kernel: the mass that a spike loses"
    )
    iterations: int = Field(1000, ge=1, description="of a descent, at most")
    every: int = Field(100, ge=1, description="iterations between two certificates, and between two births")
    gap: float = Field(1e-6, gt=0, description="certified gap at which a descent stops")
    settled: float = Field(1e-12, ge=0, description="relative fall of F between two certificates that is none")


def points(config: Config) -> list[dict[str, Any]]:
    """Sliding Frank-Wolfe first, then births from m0 + 2, then the particles by their number m."""
    found = []
    for dim in config.dim:
        for spikes in config.spikes:
            # The plain metric is the published one; in two dimensions it takes too long.
            ways = [(way, m) for way in (PARTICLES, CONE) for m in config.particles_1d] if dim == 1 else []
            ways += [(CONE, m) for m in config.particles_2d] if dim == 2 else []
            for way, m in [(SLIDING, 0), (BIRTHS, config.m0 + 2), *ways]:
                for number in range(config.seeds):
                    seed = config.first_seed + number
                    found.append({"dim": dim, "spikes": spikes, "way": way, "m": m, "seed": seed})
    return found
