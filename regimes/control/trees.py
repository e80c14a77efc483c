"""Rooted trees, and the order conditions of Runge-Kutta methods that they count.

A method has order p if and only if Σ_i b_i Φ_i(τ) = 1/γ(τ) for every tree τ of at most p vertices, where
    Φ_i(τ) = Π_k Σ_j a_ij Φ_j(τ_k)  and  γ(τ) = |τ| Π_k γ(τ_k)  over the subtrees τ_k at the root.
In a pair of methods for (q, p) each vertex has a colour, and the colour of a child chooses whose a_ij leads to it.
A method keeps quadratic invariants to order q if and only if, with φ(τ) = Σ_i b_i Φ_i(τ) and u∘v the tree v grafted to
the root of u,  φ(u∘v) + φ(v∘u) = φ(u) φ(v)  for all u, v of at most q vertices together.
Source: [HairerLubichWanner2006] sections III.1, III.2 and VI.7; [AubryChartier1998] for the second condition.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations_with_replacement, product
from math import prod
from typing import NamedTuple

import numpy as np

Matrix = Sequence[Sequence[float]]
# Rounding of sums of products of coefficients.
TOLERANCE = 1e-13


class Tree(NamedTuple):
    """A root of some colour, and the trees that hang on it in sorted order."""

    colour: int
    subtrees: tuple["Tree", ...] = ()

    @property
    def vertices(self) -> int:
        return 1 + sum(each.vertices for each in self.subtrees)

    @property
    def density(self) -> int:
        """γ(τ)."""
        return self.vertices * prod(each.density for each in self.subtrees)

    def __str__(self) -> str:
        return f"[{''.join(map(str, self.subtrees))}]"


@cache
def trees(vertices: int, colours: int = 1) -> tuple[Tree, ...]:
    """All rooted trees of so many vertices, each in `colours` colours: 1, 1, 2, 4, 9, 20 of them in one colour."""
    found = {
        Tree(colour, tuple(sorted(forest))) for forest in _forests(vertices - 1, colours) for colour in range(colours)
    }
    return tuple(sorted(found))


def _forests(vertices: int, colours: int) -> Iterator[tuple[Tree, ...]]:
    for sizes in _partitions(vertices, vertices):
        choices = [
            combinations_with_replacement(trees(size, colours), sizes.count(size))
            for size in sorted(set(sizes), reverse=True)
        ]
        for chosen in product(*choices):
            yield tuple(tree for some in chosen for tree in some)


def _partitions(total: int, largest: int) -> Iterator[tuple[int, ...]]:
    if total == 0:
        yield ()
    for first in range(min(total, largest), 0, -1):
        for rest in _partitions(total - first, first):
            yield (first, *rest)


def order(methods: Sequence[tuple[Matrix, Sequence[float]]], highest: int) -> int:
    """The order of a method, or of the pair of two, given by their (a, b): at most `highest`, up to which it looks."""
    for vertices in range(1, highest + 1):
        for tree in trees(vertices, len(methods)):
            if defect(methods, tree) > TOLERANCE:
                return vertices - 1
    return highest


def defect(methods: Sequence[tuple[Matrix, Sequence[float]]], tree: Tree) -> float:
    """|Σ_i b_i Φ_i(τ) − 1/γ(τ)|."""
    _, b = methods[tree.colour]
    return abs(float(np.asarray(b) @ _weights(methods, tree)) - 1 / tree.density)


def product_order(a: Matrix, b: Sequence[float], highest: int) -> int:
    """The q to which the method keeps quadratic invariants, such as ⟨p, δz⟩: at most `highest`, up to which it looks.

    After a fixed time they are off by O(h^q).
    """

    def weight(tree: Tree) -> float:
        return float(np.asarray(b) @ _weights([(a, b)], tree))

    def graft(one: Tree, other: Tree) -> Tree:
        return Tree(0, tuple(sorted((*one.subtrees, other))))

    for vertices in range(2, highest + 1):
        for size in range(1, vertices):
            for u, v in product(trees(size), trees(vertices - size)):
                if abs(weight(graft(u, v)) + weight(graft(v, u)) - weight(u) * weight(v)) > TOLERANCE:
                    return vertices - 1
    return highest


def _weights(methods: Sequence[tuple[Matrix, Sequence[float]]], tree: Tree) -> np.ndarray:
    """Φ_i(τ) for each stage i."""
    found = np.ones(len(methods[0][1]))
    for each in tree.subtrees:
        found = found * (np.asarray(methods[each.colour][0]) @ _weights(methods, each))
    return found
