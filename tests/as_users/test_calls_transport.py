"""Wrong calls of the transport package, as users make them: a ValueError that names the argument, and nothing else."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from torch import nn

from regimes import transport
from regimes.transport import energy
from regimes.transport.discrete import exact_transport
from regimes.transport.power import power

HIDDEN = np.ma.masked_array(np.zeros((4, 2)), mask=[[1, 0]] * 4)
NOT_POINTS = {
    "masked": HIDDEN,
    "a list of masked rows": list(HIDDEN),
    "complex": np.zeros((4, 2), complex),
    "a list of complex numbers": [[1j, 0.0]] * 4,
    "objects": np.full((4, 2), None),
    "numbers in objects": np.zeros((4, 2), object),
    "strings": np.full((4, 2), "1.5"),
    "a list of strings": [["1", "2"]] * 4,
    "truths": [[True, False]] * 4,
    "a ragged list": [[1.0, 2.0], [1.0]],
    "an empty list": [],
    "dates": np.zeros((4, 2), "datetime64[s]"),
    "records": np.zeros(4, [("a", float), ("b", float)]),
    "a set": {1.0, 2.0},
    "nothing": None,
    "a number": 3.0,
    "a word": "points",
    "sparse": torch.zeros(4, 2).to_sparse(),
    "without numbers": torch.zeros(4, 2, device="meta"),
}


@pytest.mark.parametrize("name", NOT_POINTS)
def test_what_is_no_cloud_of_numbers_is_refused_by_name(name):
    good = np.zeros((4, 2))
    for arguments in ((NOT_POINTS[name], good), (good, NOT_POINTS[name])):
        with pytest.raises(ValueError, match=r"exact_transport needs [xy][ ;]"):
            exact_transport(*arguments)


def cloud(seed=0, n=8, d=3):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stream():
    return torch.Generator().manual_seed(0)


def doubled(z):
    return 2 * z


X, Y = cloud(), cloud(1)
NUMBERS = {
    "a word": "2",
    "bytes": b"2",
    "nan": math.nan,
    "minus infinity": -math.inf,
    "minus one": -1.0,
    "a truth": True,
    "a list": [1.0],
    "complex": 1j,
    "a set": {1},
    "a vector": np.ones(2),
    "a function": doubled,
}
WRONG = {
    "cloud": NOT_POINTS,
    "p": NUMBERS | {"nothing": None, "infinity": math.inf, "too small": 0.99, "zero": 0},
    "tolerance": NUMBERS | {"nothing": None, "huge": 1e9, "one": 1, "zero": 0, "infinity": math.inf},
    "seconds": NUMBERS | {"nothing": None},
    "count": NUMBERS | {"nothing": None, "zero": 0, "a fraction": 1.5, "infinity": math.inf},
    "generator": {"a seed": 3, "a word": "cpu", "numpy's": np.random.default_rng(0), "a class": torch.Generator},
    "device": {"gpu": "gpu", "a number too high": 99, "absent": "cuda:99", "nothing": "", "none": None, "a list": []},
    "weights": NOT_POINTS
    | {"short": np.ones(7), "negative": -np.ones(8), "zero": np.zeros(8), "nan": np.full(8, math.nan)}
    | {"infinite": np.full(8, math.inf), "a matrix": np.ones((8, 1)), "whole": np.ones(8, int)},
    "map": {"a number": 3, "a word": "T", "a module's name": "nn.Linear", "an array": X, "a tuple": (doubled,)}
    | {"of another shape": nn.Linear(3, 2).double(), "of other features": nn.Linear(2, 2).double()}
    | {"of another precision": nn.Linear(3, 3), "a class": nn.Linear, "two arguments": lambda a, b: a}
    | {"numbers": lambda z: 3, "numpy": lambda z: z.detach().numpy() * 2, "a tuple back": lambda z: (z, z)}
    | {"nan": lambda z: z / 0, "mixes": lambda z: z - z.mean(0)}
    | {"random": lambda z: z + torch.rand_like(z), "in train mode": nn.Dropout(0.5), "complex": lambda z: z + 1j * z},
    "path": {
        "a word": "path",
        "a number": 3,
        "one state": [X],
        "none": [],
        "another start": [Y, Y],
        "an array": X[0, 0],
    }
    | {"another end": [X, X + 1], "misshapen": [X, X[:4], Y], "lists": [[1.0], [2.0]]}
    | {"nan": [X, X / 0, Y], "nothing in between": [X, None, Y], "a set": {1, 2}},
    "with_power": {"a word": "yes", "a number": 1, "a list": []},
    "paired": {"a word": "yes", "a number": 1, "none": None},
    "progress": {"a word": "yes", "a number": 1, "none": None, "a list": [print], "a class": int},
    "function": {"a truth": True, "a word": "yes", "a class": int},
    "members": {"a number": 3, "none": None, "beyond": (0, 8), "negative": (-1, 0), "empty": (), "fractions": (0.5, 1)}
    | {"a word": "01"},
    "amplitudes": {"a number": 1.0, "none": [], "a word": "1", "negative": [-1.0], "nothing": None, "words": ["1"]},
    "potential": NOT_POINTS | {"short": np.zeros(7), "a matrix": np.zeros((8, 1)), "nan": np.full(8, math.nan)},
    "plan": {"none": None, "dense": np.eye(8), "misshapen": coo_matrix(np.eye(7)), "a word": "plan", "a list": [[1.0]]}
    | {"negative": coo_matrix(-np.eye(8)), "empty": coo_matrix((8, 8)), "nan": coo_matrix(np.eye(8) * math.nan)},
    "matrix": {"none": None, "a word": "I", "a list": [[1.0]], "misshapen": torch.eye(2).double(), "a vector": X[0]}
    | {"nan": torch.eye(3).double() / 0, "complex": torch.eye(3).to(torch.complex128), "whole": torch.eye(3).long()}
    | {"negative": -torch.eye(3).double(), "not symmetric": torch.triu(torch.ones(3, 3)).double()},
    "states": {
        "a word": "path",
        "a number": 3,
        "one": [X],
        "none": [],
        "misshapen": [X, X[:4]],
        "lists": [[1.0], [2.0]],
    }
    | {"nan": [X, X / 0], "nothing": None, "complex": [X, X * 1j], "a set": {1, 2}, "a vector of them": torch.ones(2)},
}
SOLVE = {"p": "p", "tolerance": "tolerance", "rounds": "count", "seconds": "seconds", "device": "device"}
SOLVE |= {"progress": "progress"}
PAIR = {"x": "cloud", "t_of_x": "cloud", "p": "p"}
CALLS = {  # the door, its right arguments, and of which kind each is
    "exact_transport": (
        {"x": X, "y": Y},
        {"x": "cloud", "y": "cloud", "x_weights": "weights", "y_weights": "weights", "paired": "paired"} | SOLVE,
    ),
    "exact_gap": ({"x": X, "t_of_x": Y}, {"x": "cloud", "t_of_x": "cloud"} | SOLVE),
    "ot_gap": (
        {"x": X, "target": doubled},
        {"x": "cloud", "target": "map", "generator": "generator", "with_power": "with_power"} | SOLVE,
    ),
    "ot_gap of images": (
        {"x": X, "target": Y},
        {"x": "cloud", "target": "cloud", "path": "path", "transport_map": "map"},
    ),
    "brenier_test": (
        {"transport_map": doubled, "x": X, "generator": stream()},
        {"transport_map": "map", "x": "cloud", "generator": "generator", "p": "p", "probes": "count"},
    ),
    "power": (
        {"x": X, "t_of_x": Y, "generator": stream(), "amplitudes": [1.0]},
        PAIR
        | {"generator": "generator", "amplitudes": "amplitudes", "seconds": "seconds", "device": "device"}
        | {"solves": "progress", "progress": "function"},
    ),
    "cycle_gain": ({"x": X, "t_of_x": Y, "members": (0, 1)}, PAIR | {"members": "members"}),
    "worst_swap": ({"x": X, "t_of_x": Y}, PAIR),
    "worst_walks": ({"x": X, "t_of_x": Y, "longest": 2}, PAIR | {"longest": "count"}),
    "shortest_gaining_cycle": ({"x": X, "t_of_x": Y}, PAIR),
    "rearrangement_cycles": ({"x": X, "t_of_x": Y, "plan": coo_matrix(np.eye(8))}, PAIR | {"plan": "plan"}),
    "c_transform": (
        {"x": X, "y": Y, "v": np.zeros(8)},
        {"x": "cloud", "y": "cloud", "v": "potential", "p": "p"},
    ),
    "feasible": ({"x": X, "y": Y, "u": np.zeros(8)}, {"x": "cloud", "y": "cloud", "u": "potential", "p": "p"}),
    "certify": (
        {"x": X, "y": Y, "u": np.zeros(8), "v": np.zeros(8), "plan": coo_matrix(np.eye(8) / 8)},
        {"x": "cloud", "y": "cloud", "u": "potential", "v": "potential", "plan": "plan", "p": "p"}
        | {"tolerance": "tolerance"},
    ),
    "Regularity": ({"x": X, "t_of_x": Y}, {"x": "cloud", "t_of_x": "cloud", "points": "count"}),
    "bures_cost": (
        {"mean_x": X[0], "cov_x": torch.eye(3).double(), "mean_y": X[1], "cov_y": torch.eye(3).double()},
        {"cov_x": "matrix", "cov_y": "matrix"},
    ),
    "measure": ({"paths": [[X, Y]]}, {"p": "p"}),
    "straightness": ({"path": [X, Y]}, {"path": "states"}),
    "action": ({"path": [X, Y]}, {"path": "states", "p": "p"}),
}
DOORS = {"ot_gap of images": transport.ot_gap, "power": power, "measure": energy.measure, "action": energy.action}
DOORS |= {"straightness": energy.straightness}
RIGHT = {  # what is no mistake at this door
    ("ot_gap", "target", "an array"),  # then these are the images
    ("ot_gap", "target", "of another precision"),  # it gets the points in its own
    ("exact_transport", "x_weights", "nothing"),
    ("exact_transport", "y_weights", "nothing"),
}


def wrong_calls():
    for name, (_, kinds) in CALLS.items():
        for argument, kind in kinds.items():
            for how in WRONG[kind]:
                if (name, argument, how) not in RIGHT:
                    yield name, argument, kind, how


def told(name, argument, kind, how):
    """What is wrong with the answer to a wrong call; None if it is a ValueError in one line of our own."""
    from regimes.transport.regularity import regularity

    door = DOORS.get(name) or (regularity if name == "Regularity" else getattr(transport, name))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = door(**CALLS[name][0] | {argument: WRONG[kind][how]})
    except ValueError as error:
        return None if "need" in str(error) and "\n" not in str(error) else f"not our words: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"taken: {str(result)[:80]}"


@pytest.mark.parametrize("name", CALLS)
def test_wrong_calls_are_refused_in_words(name):
    calls = [each for each in wrong_calls() if each[0] == name]
    assert {" ".join((*each[:2], each[3])): found for each in calls if (found := told(*each)) is not None} == {}


def test_there_are_some_hundred_wrong_calls():
    assert len(list(wrong_calls())) > 600
