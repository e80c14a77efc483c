"""Random streams: one seed gives as many independent generators as there are things to draw, each named here.

The integers are part of kept results: none is ever changed, or used for something else in the same room. Two rooms may
share an integer, as no run draws from both with one seed for different things.
"""

from enum import IntEnum, unique

import torch

from regimes import checks


@unique
class Data(IntEnum):
    """Samples of a data set, and the order in which they come."""

    DRAW = 31
    TRAIN = 32
    VALIDATION = 33
    TEST = 34
    ORDER = 41
    AUGMENT = 42


@unique
class Run(IntEnum):
    """A training run: initial weights, times of the layers, and the samples that stand for a large part."""

    WEIGHTS = 51
    TIMES = 52
    MEASURED = 53


@unique
class LazyNet(IntEnum):
    """Two-layer nets and their made-up data: the lazy statements and the main job."""

    DATA = 0
    WEIGHTS = 1
    INPUTS = 2  # in init_scale the fresh batches
    TARGETS = 3
    TEST_INPUTS = 4
    BATCHES = 5  # of SGD
    PROBLEMS = 23  # random problems of the bound, with all that belongs to them


@unique
class InfiniteWidth(IntEnum):
    """Finite nets beside their infinite-width limit."""

    INPUTS = 1
    TWO_LAYER = 2
    PILOT = 3
    DEEP = 4


@unique
class Classifier(IntEnum):
    """Classifiers whose laziness is a statement."""

    WEIGHTS = 64


@unique
class FewSamples(IntEnum):
    """Residual nets on few samples, circles among them."""

    WEIGHTS = 61
    ENCODER = 62
    HALVES = 63
    AUTOENCODER = 64


@unique
class Bias(IntEnum):
    """Initialisations compared by the energy that they end with."""

    WEIGHTS = 62


@unique
class KnownMap(IntEnum):
    """Problems whose optimal map is known, the nets on them and the probes of their maps."""

    DATA = 51
    FRESH = 52
    WEIGHTS = 53
    PROBES = 61
    DEAL = 62


@unique
class Sequences(IntEnum):
    """Small transformers on rows of images: samples, initial weights, order of the batches."""

    DATA = 241
    WEIGHTS = 242
    BATCHES = 243


@unique
class DeepFlow(IntEnum):
    """Mean-field ResNets and their samples."""

    DATA = 101
    MEASURE = 102
    OTHER = 103
    SEARCH = 104
    BLOCKS = 105
    ADDED = 106
    TIMES = 107
    WEIGHTS = 108
    ORDER = 109


@unique
class Measures(IntEnum):
    """Two-layer nets as measures, and their samples."""

    DATA = 111
    ONE = 112
    OTHER = 113
    SEARCH = 114  # starts of the search for the lowest first variation


@unique
class Chaos(IntEnum):
    """Particles whose number is sent to infinity."""

    START = 121


@unique
class Layered(IntEnum):
    """Small networks as steps of differential equations, and their data."""

    DATA = 121
    WEIGHTS = 122


@unique
class Plane(IntEnum):
    """Nets of the plane, their samples and the fresh ones on which they are tried."""

    DATA = 131
    FRESH = 132
    WEIGHTS = 133


@unique
class Stability(IntEnum):
    """Random fields whose stability is measured: weights, the states that are tried, and the search for worse ones."""

    WEIGHTS = 131
    STATES = 132
    SEARCH = 133


@unique
class GapJob(IntEnum):
    """The job ot-gap: which points, and the probes of the map."""

    CHOICE = 71
    PROBES = 72


@unique
class Diagnosed(IntEnum):
    """Nets of known regime that diagnose is tried on."""

    DATA = 91
    WEIGHTS = 92


@unique
class Criterion(IntEnum):
    """Models whose lazy criterion is measured: weights, samples, random starts of its searches, what model it is."""

    WEIGHTS = 101
    DATA = 102
    SEARCH = 103
    RECIPE = 104
    TEST = 105


@unique
class DiagnoseJob(IntEnum):
    """The job diagnose: which samples, and the subsamples behind its intervals."""

    CHOICE = 81
    SUBSAMPLES = 82


@unique
class RealData(IntEnum):
    """Kernel regressions and nets on images: weights, batches, and samples drawn from a pool."""

    WEIGHTS = 101
    ORDER = 102
    POOL = 103


@unique
class ScaledImages(IntEnum):
    """Nets of several scales α on labelled images: weights, and labels that are shuffled."""

    WEIGHTS = 111
    SHUFFLE = 112


@unique
class Robust(IntEnum):
    """Nets that are certified and attacked: weights, and which test images are attacked."""

    WEIGHTS = 121
    ATTACKED = 122


@unique
class SmallNet(IntEnum):
    """Small residual nets on few images: weights, and noise on the test images."""

    WEIGHTS = 141
    NOISE = 142


def generator(seed: int, *stream: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Random generator of one seed; further integers name independent streams of it (data, weights, batches...)."""
    for name, value in {"seed": seed, **{f"stream {number}": value for number, value in enumerate(stream)}}.items():
        if isinstance(value, bool) or not hasattr(value, "__index__") or hasattr(value, "shape"):
            raise ValueError(f"generator needs {name} as a whole number; got {value!r}. Change it.")
    # A 64-bit mix of all integers, so that neighbouring seeds and streams give unrelated states.
    state = 0x9E3779B97F4A7C15
    for value in (seed, *stream):
        state ^= (value + 0x9E3779B97F4A7C15 + (state << 6) + (state >> 2)) & 0xFFFFFFFFFFFFFFFF
        state = (state * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    place = device if isinstance(device, str) and device == "cpu" else checks.device("generator", device)
    return torch.Generator(device=place).manual_seed(state & 0x7FFFFFFFFFFFFFFF)
