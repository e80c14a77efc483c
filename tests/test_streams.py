"""The registry of random streams: numbers drawn before are drawn again, and nothing draws from a nameless stream."""

import ast
from enum import IntEnum
from pathlib import Path

import pytest
import torch

from regimes import streams
from regimes.conventions import generator

PACKAGE = Path(streams.__file__).parent
ROOMS = [room for room in vars(streams).values() if isinstance(room, type) and issubclass(room, IntEnum) and len(room)]


@pytest.mark.parametrize(
    ("integers", "state"),
    [
        ((0,), 8127835874485395264),
        ((3, 1), 4772183155150626126),
        ((7, 41, 2), 6822780724169771785),
        ((5, 1, 64, 0), 4721312393302022325),
    ],
)
def test_a_stream_is_what_it_always_was(integers, state):
    assert generator(*integers).initial_seed() == state


def test_a_name_is_its_integer():
    assert generator(3, streams.LazyNet.WEIGHTS).initial_seed() == generator(3, 1).initial_seed()
    assert generator(7, streams.Data.ORDER, 2).initial_seed() == generator(7, 41, 2).initial_seed()


@pytest.mark.parametrize("room", ROOMS)
def test_the_streams_of_a_room_differ(room):
    first = [torch.rand(4, generator=generator(0, stream)) for stream in room]
    assert len({tuple(values.tolist()) for values in first}) == len(room)
    assert room.__doc__


def test_every_stream_of_the_package_has_its_name_here():
    nameless = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "generator":
                nameless += [f"{file.name}:{node.lineno}" for each in node.args[1:2] if isinstance(each, ast.Constant)]
    assert nameless == []
