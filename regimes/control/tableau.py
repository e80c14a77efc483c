"""Runge-Kutta methods as data: coefficients, and the order that each claims and is held to.

z⁺ = z + h Σ_i b_i k_i,  k_i = f(t + c_i h, z + h Σ_j a_ij k_j).
"""

from dataclasses import dataclass
from functools import cached_property
from math import isfinite, sqrt

from regimes.control.trees import TOLERANCE, order

Row = tuple[float, ...]
HIGHEST = 6  # up to this order claims are held against the order conditions


@dataclass(frozen=True)
class Tableau:
    """A method of `order`; b_hat: weights of an embedded solution of order `order_hat`, for step-size control.

    ValueError: coefficients of other lengths, c that is not the row sums of a, or an order that the method does not
    have by the order conditions (control.trees), as far as order 6.
    Source of the coefficients, unless said beside them: [HairerLubichWanner2006].
    """

    name: str
    a: tuple[Row, ...]
    b: Row
    order: int
    b_hat: Row | None = None
    order_hat: int = 0

    def __post_init__(self) -> None:
        stages = len(self.b)
        rows = (*self.a, *([] if self.b_hat is None else [self.b_hat]))
        if len(self.a) != stages or any(len(row) != stages for row in rows):
            raise ValueError(
                f"Tableau needs a of {stages} rows and columns, as many as b has weights, and b_hat of as many; "
                f"got rows of {[len(row) for row in rows]}. Write zeros where a stage is not used."
            )
        if not all(isfinite(each) for row in (*rows, self.b) for each in row):
            raise ValueError(f"Tableau needs finite coefficients; got {rows} and {self.b}.")
        for weights, claimed in ((self.b, self.order), (self.b_hat, self.order_hat)):
            if weights is None:
                continue
            found = order([(self.a, weights)], min(claimed, HIGHEST))
            if claimed < 1 or found < min(claimed, HIGHEST):
                raise ValueError(
                    f"Tableau {self.name!r} needs an order that its coefficients have; got {claimed}, and the order "
                    f"conditions hold up to {found}. Check the coefficients."
                )

    @property
    def stages(self) -> int:
        return len(self.b)

    @cached_property
    def c(self) -> Row:
        """Times of the stages, as a share of the step: the row sums of a."""
        return tuple(sum(row) for row in self.a)

    @cached_property
    def explicit(self) -> bool:
        """Whether each stage needs only stages before it."""
        return all(self.a[i][j] == 0 for i in range(self.stages) for j in range(i, self.stages))

    @cached_property
    def first_is_last(self) -> bool:
        """Whether the last stage is the velocity at the end of the step, so that the next step has its first one."""
        return self.explicit and self.stages > 1 and self.a[-1] == self.b

    @cached_property
    def symplectic(self) -> bool:
        """Whether it keeps quadratic invariants: b_i a_ij + b_j a_ji = b_i b_j. Source: [SanzSerna2016]."""
        return preserves_products(self, self.a)

    @cached_property
    def adjoint(self) -> "Tableau":
        """The method whose step of −h undoes a step of h: b_j − a_ij. Source: [HairerLubichWanner2006] V.2."""
        a = tuple(tuple(weight - each for weight, each in zip(self.b, row, strict=True)) for row in self.a)
        return Tableau(f"adjoint of {self.name}", a, self.b, self.order)

    def partner(self) -> tuple[Row, ...]:
        """ã_ij = b_j − b_j a_ji / b_i: with it for the adjoint, ⟨p, δz⟩ is the same after each step.

        ValueError where a weight b_i is zero. Source: [SanzSerna2016].
        """
        if 0 in self.b:
            raise ValueError(
                f"the symplectic partner needs weights b other than 0; those of {self.name} are {self.b}. Take "
                "discretise_then_optimise, which has the same gradient without it."
            )
        return tuple(
            tuple(self.b[j] - self.b[j] * self.a[j][i] / self.b[i] for j in range(self.stages))
            for i in range(self.stages)
        )


def preserves_products(tableau: Tableau, companion: tuple[Row, ...]) -> bool:
    """Whether the pair keeps ⟨p, δz⟩: b_i ã_ij + b_j a_ji = b_i b_j, with the same weights for both."""
    b, stages = tableau.b, range(tableau.stages)
    return all(
        abs(b[i] * companion[i][j] + b[j] * tableau.a[j][i] - b[i] * b[j]) <= TOLERANCE for i in stages for j in stages
    )


def _lower(*rows: Row) -> tuple[Row, ...]:
    """An explicit a from its rows without zeros at their ends; the first row is empty."""
    return tuple(row + (0.0,) * (len(rows) - len(row)) for row in rows)


EULER = Tableau("Euler", ((0.0,),), (1.0,), 1)
HEUN = Tableau("Heun", _lower((), (1.0,)), (1 / 2, 1 / 2), 2)  # also called the improved Euler method
KUTTA3 = Tableau("Kutta 3", _lower((), (1 / 2,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6), 3)
KUTTA4 = Tableau("Kutta 4", _lower((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), 4)
# Source: [BogackiShampine1989].
BOGACKI_SHAMPINE = Tableau(
    "Bogacki-Shampine",
    _lower((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    (2 / 9, 1 / 3, 4 / 9, 0.0),
    3,
    (7 / 24, 1 / 4, 1 / 3, 1 / 8),
    2,
)
# Source: [DormandPrince1980].
DORMAND_PRINCE = Tableau(
    "Dormand-Prince",
    _lower(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
    5,
    (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40),
    4,
)
IMPLICIT_EULER = Tableau("implicit Euler", ((1.0,),), (1.0,), 1)
IMPLICIT_MIDPOINT = Tableau("implicit midpoint", ((1 / 2,),), (1.0,), 2)
_R3, _R15 = sqrt(3), sqrt(15)
GAUSS2 = Tableau("Gauss, 2 stages", ((1 / 4, 1 / 4 - _R3 / 6), (1 / 4 + _R3 / 6, 1 / 4)), (1 / 2, 1 / 2), 4)
GAUSS3 = Tableau(
    "Gauss, 3 stages",
    (
        (5 / 36, 2 / 9 - _R15 / 15, 5 / 36 - _R15 / 30),
        (5 / 36 + _R15 / 24, 2 / 9, 5 / 36 - _R15 / 24),
        (5 / 36 + _R15 / 30, 2 / 9 + _R15 / 15, 5 / 36),
    ),
    (5 / 18, 4 / 9, 5 / 18),
    6,
)
TABLEAUS = (EULER, HEUN, KUTTA3, KUTTA4, BOGACKI_SHAMPINE, DORMAND_PRINCE)
TABLEAUS += (IMPLICIT_EULER, IMPLICIT_MIDPOINT, GAUSS2, GAUSS3)


@dataclass(frozen=True)
class Pair:
    """Two methods with the same weights' times for the halves of (q, p): q by `first`, p by `second`.

    ValueError: other numbers of stages, or an order that the pair does not have by the order conditions of coloured
    trees.
    """

    name: str
    first: Tableau
    second: Tableau
    order: int

    def __post_init__(self) -> None:
        if self.first.stages != self.second.stages:
            raise ValueError(
                f"Pair needs two methods of as many stages; got {self.first.stages} and {self.second.stages}. "
                "Add stages of weight 0."
            )
        found = order([(each.a, each.b) for each in (self.first, self.second)], self.order)
        if found < self.order:
            raise ValueError(
                f"Pair {self.name!r} needs an order that its coefficients have; got {self.order}, and the order "
                f"conditions hold up to {found}. Check the coefficients."
            )

    @cached_property
    def symplectic(self) -> bool:
        """b_i ã_ij + b̃_j a_ji = b_i b̃_j and b = b̃: it keeps the area dq ∧ dp. Source: [HairerLubichWanner2006]."""
        return self.first.b == self.second.b and preserves_products(self.first, self.second.a)

    @cached_property
    def adjoint(self) -> "Pair":
        """The pair whose step of −h undoes a step of h."""
        return Pair(f"adjoint of {self.name}", self.first.adjoint, self.second.adjoint, self.order)

    @cached_property
    def sequence(self) -> tuple[tuple[int, int], ...] | None:
        """(half, stage) in an order in which a separable system is stepped without solving; None if there is none.

        The velocity of q at a stage needs p there, and so velocities of p; that of p needs q. Halves: 0 is q, 1 is p.
        """
        known: list[tuple[int, int]] = []
        rows = (self.second.a, self.first.a)  # the velocity of a half is taken where the other half stands
        open_ = [(half, stage) for stage in range(self.first.stages) for half in (1, 0)]
        while open_:
            ready = [
                (half, stage)
                for half, stage in open_
                if all(not share or (1 - half, place) in known for place, share in enumerate(rows[half][stage]))
            ]
            if not ready:
                return None
            known.append(ready[0])
            open_.remove(ready[0])
        return tuple(known)


# p by the end of the step, q by its beginning: q⁺ = q + h ∂H/∂p(q, p⁺), p⁺ = p − h ∂H/∂q(q, p⁺).
SYMPLECTIC_EULER = Pair("symplectic Euler", EULER, IMPLICIT_EULER, 1)
STORMER_VERLET = Pair(
    "Störmer-Verlet",
    Tableau("trapezoidal rule", ((0.0, 0.0), (1 / 2, 1 / 2)), (1 / 2, 1 / 2), 2),
    Tableau("its partner", ((1 / 2, 0.0), (1 / 2, 0.0)), (1 / 2, 1 / 2), 2),
    2,
)


def composed(pair: Pair, shares: Row, name: str, order: int) -> Pair:
    """One step of h as steps of the pair one after the other, each a share of h; a share may be negative."""

    def joined(method: Tableau, claimed: str) -> Tableau:
        rows = [
            tuple(
                share * each if other == own else before * weight if other < own else 0.0
                for other, before in enumerate(shares)
                for each, weight in zip(row, method.b, strict=True)
            )
            for own, share in enumerate(shares)
            for row in method.a
        ]
        return Tableau(claimed, tuple(rows), tuple(share * weight for share in shares for weight in method.b), order)

    return Pair(name, joined(pair.first, f"{name}, q"), joined(pair.second, f"{name}, p"), order)


_W = 1 / (2 - 2 ** (1 / 3))
# Source: [HairerLubichWanner2006] II.4, after Yoshida, Suzuki, Forest and Ruth.
YOSHIDA4 = composed(STORMER_VERLET, (_W, 1 - 2 * _W, _W), "Yoshida 4", 4)
PAIRS = (SYMPLECTIC_EULER, STORMER_VERLET, YOSHIDA4)
