"""The memory that a comparison takes, estimated from its settings before anything is allocated."""

from regimes.data.catalogue import TEACHER_INPUTS
from regimes.errors import UserError
from regimes.jobs.lazy_vs_meanfield.config import Config
from regimes.machine import free_memory

INPUTS = {"teacher": TEACHER_INPUTS, "circle": 2, "digits": 64, "mnist": 784}
NUMBER = 8  # bytes of a float64
TILE = 2**20  # numbers of a tile of activations
SIZES = ("width", "train_size", "test_size", "seeds", "times")


def refuse_too_large(config: Config) -> None:
    """UserError if the comparison needs more memory than is free, with the setting that counts most."""
    needed, free = estimate(config), free_memory(config.device)
    if free is None or needed <= free:
        return
    smaller = {name: estimate(config.model_copy(update={name: getattr(config, name) / 2})) for name in SIZES}
    most = min(smaller, key=lambda name: smaller[name])
    raise UserError(
        f"this comparison needs about {needed / 2**30:,.1f} GiB of memory, and {free / 2**30:.1f} GiB are free: "
        f"take a smaller {most}, which is {getattr(config, most):,}"
    )


def estimate(config: Config) -> float:
    """Bytes at the peak, to a factor of about two: particles, activations, kernels and what is kept at every moment."""
    d = INPUTS[config.dataset]
    k = 1 if config.dataset in ("teacher", "circle") else 10 if config.classes is None else len(config.classes)
    m, n, both, seeds = config.width, config.train_size, config.train_size + config.test_size, config.seeds
    data = 2 * seeds * both * (d + k)
    particles = m * (d + k) * (25 * seeds + 2 * config.times)  # two integrations of some twelve copies, two paths
    activations = 7 * max(m * both, TILE) + 5 * seeds * n * m
    kernels = 4 * (n * k) ** 2 + 2 * n * k * both * k + m * both * (4 + (2 * k if k > 1 else 0))
    moments = config.times * seeds * (4 * both * k + 20)
    return float(NUMBER) * (data + particles + activations + kernels + moments)
