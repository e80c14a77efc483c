"""What kernels that are invariant to rotations cannot learn: a lower bound that two statements share.

Set-up. Inputs x_i from a law that is invariant to rotations. A kernel with K(Qx, Qx') = K(x, x') for all rotations Q,
or one that is drawn with a law that does not change under rotations, as the tangent kernel of a net with isotropic
random weights. Target: g(x) = xᵀBx, B symmetric with trace 0. All such g are one space H of dimension
N = d(d+1)/2 − 1.
Bound. A predictor is f = Σ_i c_i K(x_i, ·), with any c, even one that is chosen in sight of g. Let P be the projection
onto H, orthogonal in mean square, and V the span of the n functions P K(x_i, ·). Then Pf lies in V, and
    E‖f − g‖² ≥ E‖Pf − g‖² ≥ E‖g − P_V g‖² = ⟨g, (1 − E P_V) g⟩.
The law of V is invariant to rotations and H is irreducible, so E P_V is a multiple of the identity (Schur's lemma)
with trace E dim V ≤ n. Hence E‖f − g‖²/‖g‖² ≥ 1 − n/N, whichever B is.
Equality over targets. With a ridge fixed in advance, f is linear in g, and E‖f − g‖² is an invariant quadratic form on
H, thus a multiple of ‖g‖²: all targets of H have the same expected error, on however few coordinates they depend.
"""

from regimes.checks import count


def quadratic_features(inputs: int) -> int:
    """N = d(d+1)/2 − 1, the dimension of the quadratic forms of trace 0 in d variables."""
    return count("quadratic_features", "inputs", inputs) * (inputs + 1) // 2 - 1


def least_error(samples: int, inputs: int) -> float:
    """1 − n/N, the share of a quadratic target's energy that such a kernel leaves on average; 0 from n = N on."""
    return max(0.0, 1 - count("least_error", "samples", samples) / quadratic_features(inputs))
