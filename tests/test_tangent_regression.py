import math

import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from torch.testing import assert_close

from regimes.activations import RELU
from regimes.conventions import generator, square_risk
from regimes.models.mlp import MLP
from regimes.tangent import regression, spectrum
from regimes.tangent.gram.footprint import most_bytes
from regimes.tangent.kernel import ntk
from regimes.tangent.regression import GradientFlow, kernel_ridge, predict
from regimes.tangent.spectrum import merge_outputs

INF = float("inf")


@pytest.fixture
def problem():
    """Features with more columns than samples: K = ΦΦᵀ regular; (K, K_test, y, features)."""
    features = torch.randn(6, 9, dtype=torch.float64)
    test = torch.randn(4, 9, dtype=torch.float64)
    return features @ features.T, test @ features.T, torch.randn(6, 2, dtype=torch.float64), features


def flow_of(kernel, *targets):
    """The flow where every row of the kernel is an input."""
    return GradientFlow(kernel, *targets)


def deficient(n=6, rank=3):
    features = torch.randn(n, rank, dtype=torch.float64)
    return features @ features.T


# Ridge


def test_the_ridge_minimises_the_penalised_half_mean_risk(problem):
    """The gradient of 1/(2n) Σ‖Kc − y‖² + (ridge/2) cᵀKc vanishes at the fit and nowhere near it."""
    kernel, _, y, _ = problem
    c = kernel_ridge(kernel, y, ridge=0.3).coefficients.requires_grad_()
    loss = square_risk(kernel @ c, y) + 0.15 * (c * (kernel @ c)).sum()
    assert torch.autograd.grad(loss, c)[0].abs().max() < 1e-12  # rounding


def test_it_agrees_with_scikit_learn(problem):
    """scikit-learn penalises the plain sum of squares: its alpha is n·ridge."""
    kernel, k_test_train, y, _ = problem
    other = KernelRidge(alpha=6 * 0.3, kernel="precomputed").fit(kernel.numpy(), y.numpy())
    ours = predict(kernel_ridge(kernel, y, ridge=0.3), k_test_train)
    assert_close(ours, torch.from_numpy(other.predict(k_test_train.numpy())))


def test_without_ridge_it_interpolates_with_the_least_norm_weights(problem):
    kernel, _, y, features = problem
    fit = kernel_ridge(kernel, y)
    assert_close(predict(fit, kernel), y)
    assert_close(features.T @ fit.coefficients, torch.linalg.lstsq(features, y).solution)
    assert fit.rank == 6
    assert_close(fit.condition, torch.linalg.cond(kernel))


def test_the_ridgeless_fit_is_the_limit_of_small_ridges(problem):
    kernel, _, y, _ = problem
    for matrix in (kernel, deficient()):
        limit = kernel_ridge(matrix, y)
        near = kernel_ridge(matrix, y, ridge=1e-9)
        assert_close(matrix @ near.coefficients, matrix @ limit.coefficients, rtol=1e-5, atol=1e-5)  # ridge·condition


def test_a_singular_kernel_gives_the_pseudo_inverse_and_says_so(problem):
    kernel = deficient()
    fit = kernel_ridge(kernel, problem[2])
    assert_close(fit.coefficients, torch.linalg.pinv(kernel, hermitian=True) @ problem[2])
    assert fit.rank == 3
    values = torch.linalg.eigvalsh(kernel)
    assert_close(fit.condition, values[-1] / values[3])
    assert fit.smallest.abs() < fit.cutoff


def test_the_condition_is_that_of_the_solved_matrix(problem):
    kernel, _, y, _ = problem
    assert_close(kernel_ridge(kernel, y, ridge=0.5).condition, torch.linalg.cond(kernel + 3 * torch.eye(6)))


def test_an_ill_conditioned_float32_problem_is_solved_in_float64_without_nan():
    x = torch.linspace(0, 1, 40)[:, None]
    kernel = torch.exp(-(x - x.T).square() * 5)  # condition number beyond 1e16
    fit = kernel_ridge(kernel, torch.sin(6 * x))
    assert fit.coefficients.dtype == torch.float64
    assert fit.rank < 40
    assert_close(predict(fit, kernel), torch.sin(6 * x).double(), rtol=0, atol=1e-3)  # cut at n·ε of float32


def test_runs_are_solved_together_as_alone(problem):
    kernel, k_test_train, y, _ = problem
    kernels = torch.stack([kernel, deficient(), 2 * kernel])
    together = kernel_ridge(kernels, y, ridge=0.1)
    for run, matrix in enumerate(kernels):
        alone = kernel_ridge(matrix, y, ridge=0.1)
        assert_close(together.coefficients[run], alone.coefficients)
        assert_close(predict(together, k_test_train)[run], predict(alone, k_test_train))


@pytest.mark.parametrize("ridge", [-1.0, INF, float("nan")])
def test_impossible_ridges_are_refused(problem, ridge):
    with pytest.raises(ValueError, match="ridge as a finite number of at least 0"):
        kernel_ridge(problem[0], problem[2], ridge=ridge)


def full_problem(n=5, k=2):
    features = torch.randn(n, k, 14, dtype=torch.float64)
    test = torch.randn(3, k, 14, dtype=torch.float64)
    kernel, across = (torch.einsum("iap,jbp->ijab", other, features) for other in (features, test))
    return kernel, across, torch.randn(n, k, dtype=torch.float64)


@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_a_full_kernel_goes_in_as_it_is_and_is_solved_by_pairs_with_the_ridge_of_the_samples(ridge):
    kernel, across, y = full_problem()
    fit = kernel_ridge(kernel, y, ridge=ridge)
    matrix = merge_outputs(kernel) + 5 * ridge * torch.eye(10, dtype=torch.float64)
    coefficients = torch.linalg.solve(matrix, y.reshape(10, 1))
    assert_close(fit.coefficients, coefficients.reshape(5, 2))
    assert_close(predict(fit, across), (merge_outputs(across) @ coefficients).reshape(3, 2))
    assert fit.shift == 5 * ridge
    assert fit.pairs
    runs = kernel_ridge(torch.stack([kernel, 2 * kernel]), y, ridge=ridge)
    assert_close(runs.coefficients[0], fit.coefficients)
    assert_close(predict(runs, across)[0], predict(fit, across))


def test_one_sample_and_one_output_are_enough():
    one = torch.tensor([[2.0]], dtype=torch.float64)
    assert_close(kernel_ridge(one, one, ridge=1.0).coefficients, torch.tensor([[2 / 3]], dtype=torch.float64))
    assert_close(kernel_ridge(one[..., None, None], one, ridge=1.0).coefficients, 2 * one / 6)


def test_duplicate_points_share_their_weight():
    y = torch.tensor([[1.0], [1.0], [2.0]]).double()
    kernel = torch.tensor([[1.0, 1.0, 0.2], [1.0, 1.0, 0.2], [0.2, 0.2, 1.0]], dtype=torch.float64)
    fit = kernel_ridge(kernel, y)
    assert fit.rank == 2
    assert_close(fit.coefficients[0], fit.coefficients[1])
    assert_close(predict(fit, kernel), y)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_many_rows_with_a_ridge_are_solved_by_cholesky_as_by_eigenvalues(problem, monkeypatch, scale):
    features = torch.randn(80, 40, dtype=torch.float64)
    kernel, y = scale * features @ features.T, torch.randn(80, 3, dtype=torch.float64)
    slow = kernel_ridge(kernel, y, ridge=1e-2)
    monkeypatch.setattr(regression, "EIGEN_ROWS", 10)
    fast = kernel_ridge(kernel, y, ridge=1e-2)
    assert_close(fast.coefficients, slow.coefficients, rtol=0, atol=1e-7)  # condition times rounding
    assert_close(fast.condition, slow.condition, rtol=1e-2, atol=0)  # of Lanczos
    assert fast.shift == slow.shift == 0.8


def test_a_ridge_too_small_for_cholesky_is_refused_and_not_raised_in_silence(monkeypatch):
    monkeypatch.setattr(regression, "EIGEN_ROWS", 10)
    x = torch.linspace(0, 1, 60, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"positive definite in floating point.* Raise the ridge"):
        kernel_ridge(torch.exp(-((x[:, None] - x) ** 2)), x[:, None], ridge=1e-22)
    with pytest.raises(ValueError, match="positive semidefinite; its least eigenvalue is -1"):
        kernel_ridge(torch.diag(torch.linspace(-1, 1, 60).double()), x[:, None], ridge=1.0)


def test_cholesky_takes_the_place_of_one_further_matrix(monkeypatch):
    monkeypatch.setattr(regression, "EIGEN_ROWS", 10)
    monkeypatch.setattr(spectrum, "_BLOCK", 2**16)  # small beside the matrix, as at real sizes
    kernel, y = torch.eye(1200, dtype=torch.float64), torch.ones(1200, 1, dtype=torch.float64)
    kernel_ridge(kernel, y, ridge=1.0)  # what is loaded at the first call stays
    most, fit = most_bytes(lambda: kernel_ridge(kernel, y, ridge=1.0), [kernel, y])
    assert_close(fit.coefficients, y / 1201)
    assert most < 1.6 * kernel.nbytes  # a factor beside the matrix makes it 2 or more


# Gradient flow


def test_one_sample_decays_by_its_kernel():
    """n = 1: f_t − y = e^{−λt}(f_0 − y)."""
    flow = flow_of(torch.tensor([[2.0]]).double(), torch.tensor([[3.0]]).double(), torch.tensor([[1.0]]).double())
    assert_close(flow.train(0.7).item(), 3 - 2 * math.exp(-1.4))
    assert_close(flow.risk(0.7).item(), 0.5 * 4 * math.exp(-2.8))
    assert_close(flow.displacement(0.7).item(), 2 * (1 - math.exp(-1.4)) / 2**0.5)


def test_the_rate_is_the_eigenvalue_over_the_number_of_samples():
    n = 5
    kernel = torch.eye(n, dtype=torch.float64) * 2
    y = torch.randn(n, 3, dtype=torch.float64)
    flow = flow_of(kernel, y)
    assert_close(flow.train(1.5), y * (1 - math.exp(-2 * 1.5 / n)))
    assert_close(flow.risk(1.5), square_risk(flow.train(1.5), y))


def test_it_solves_the_differential_equation(problem):
    """Central difference against −(1/n) K(x, X)(f − y), on training and test points."""
    kernel, k_test_train, y, _ = problem
    f_train_0, f_test_0 = torch.randn(6, 2, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    flow, t, h = flow_of(kernel, y, f_train_0), 0.8, 1e-5
    residual = flow.train(t) - y
    slope = (flow.train(t + h) - flow.train(t - h)) / (2 * h)
    assert_close(slope, -kernel @ residual / 6, rtol=1e-7, atol=1e-7)  # h² and ε/h
    slope = (flow.test(t + h, k_test_train, f_test_0) - flow.test(t - h, k_test_train, f_test_0)) / (2 * h)
    assert_close(slope, -k_test_train @ residual / 6, rtol=1e-7, atol=1e-7)  # h² and ε/h


def test_test_outputs_on_the_training_points_are_the_training_outputs(problem):
    kernel, _, y, _ = problem
    start = torch.randn(6, 2, dtype=torch.float64)
    flow = flow_of(kernel, y, start)
    for t in (0.0, 0.3, 40.0, INF):
        assert_close(flow.test(t, kernel, start), flow.train(t))


@pytest.mark.parametrize("singular", [False, True])
def test_the_limits_are_the_start_and_the_ridgeless_solution(problem, singular):
    kernel, _, y, features = problem
    if singular:
        features = torch.randn(6, 3, dtype=torch.float64)
        kernel = features @ features.T
    k_test_train = torch.randn(4, features.shape[1], dtype=torch.float64) @ features.T
    f_train_0, f_test_0 = torch.randn(6, 2, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    flow = flow_of(kernel, y, f_train_0)
    assert_close(flow.train(0.0), f_train_0)
    assert_close(flow.test(0.0, k_test_train, f_test_0), f_test_0)
    fit = kernel_ridge(kernel, y - f_train_0)
    for t in (INF, 1e9):
        assert_close(flow.train(t), f_train_0 + predict(fit, kernel))
        assert_close(flow.test(t, k_test_train, f_test_0), f_test_0 + predict(fit, k_test_train))
    assert flow.rank == (3 if singular else 6)


def test_the_displacement_is_that_of_the_weights_of_a_linear_model(problem):
    """f = Φw under w' = −∇R: weights by the same spectrum in parameter space."""
    kernel, _, y, features = problem
    flow = flow_of(kernel, y)
    values, vectors = torch.linalg.eigh(features.T @ features / 6)
    target = vectors.T @ (features.T @ y / 6)
    for t in (0.1, 2.0, 30.0):
        rate = torch.where(values > 1e-10, -torch.expm1(-values * t) / values, torch.full_like(values, t))
        weights = vectors @ (rate[:, None] * target)
        assert_close(features @ weights, flow.train(t))
        assert_close(flow.displacement(t), weights.norm())
    fit = kernel_ridge(kernel, y)
    assert_close(flow.displacement(INF), (features.T @ fit.coefficients).norm())


def test_the_displacement_of_an_alpha_scaled_model_divides_by_alpha(problem):
    """h = Φw, f = αh, w' = −∇R(αh)/α²: f follows K = ΦΦᵀ, and the weights end at Φ⁺y/α."""
    kernel, _, y, features = problem
    alpha = 7.0
    weights = torch.linalg.lstsq(features, y).solution / alpha
    assert_close(flow_of(kernel, y).displacement(INF) / alpha, weights.norm())


def test_the_time_to_a_risk_is_when_it_is_reached(problem):
    kernel, _, y, _ = problem
    flow = flow_of(kernel, y)
    for share in (0.9, 0.1, 1e-6, 1e-20):
        goal = share * flow.risk(0.0)
        assert_close(flow.risk(flow.time_to(goal)), goal)
    assert flow.time_to(2 * float(flow.risk(0.0))) == 0
    assert flow.time_to(0.0) == INF


def test_a_risk_out_of_reach_takes_infinite_time(problem):
    flow = flow_of(deficient(), problem[2])
    assert flow.risk(INF) > 0.01
    assert flow.time_to(0.9 * float(flow.risk(INF))) == INF
    assert flow.time_to(1.1 * float(flow.risk(INF))) < INF


def test_the_risk_never_grows(problem):
    flow = flow_of(problem[0], problem[2])
    risks = torch.stack([flow.risk(t) for t in torch.logspace(-3, 4, 50).tolist()])
    assert (risks.diff() <= 0).all()


def test_runs_with_own_kernels_times_and_starts_are_as_alone(problem):
    kernel, k_test_train, y, _ = problem
    kernels, times = torch.stack([kernel, deficient()]), torch.tensor([0.5, 3.0], dtype=torch.float64)
    start = torch.randn(2, 6, 2, dtype=torch.float64)
    together = flow_of(kernels, y, start)
    goals = together.risk(times)
    for run in range(2):
        alone, t = flow_of(kernels[run], y, start[run]), float(times[run])
        assert_close(together.train(times)[run], alone.train(t))
        assert_close(together.test(times, k_test_train)[run], alone.test(t, k_test_train))
        assert_close(together.risk(times)[run], alone.risk(t))
        assert_close(together.displacement(times)[run], alone.displacement(t))
        assert_close(together.time_to(goals)[run], times[run])
        assert together.rank[run] == alone.rank


def test_targets_with_a_runs_axis_share_one_kernel(problem):
    kernel, _, y, _ = problem
    targets = torch.stack([y, 2 * y])
    flow = flow_of(kernel, targets)
    assert_close(flow.train(1.0)[1], flow_of(kernel, 2 * y).train(1.0))
    assert_close(flow.risk(1.0), torch.tensor([1.0, 4.0]).double() * flow_of(kernel, y).risk(1.0))


def test_a_full_kernel_by_pairs_keeps_the_time_unit_of_the_samples():
    """Coupled outputs: rows are (sample, output) pairs, the mean stays over n samples."""
    net = MLP([3, 20, 2], activation=RELU, generator=generator(0))
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    kernel = ntk(net, x)
    flow = GradientFlow(kernel, y, net(x).detach())
    h = 1e-5
    slope = (flow.train(h) - flow.train(0.0)) / h
    assert_close(slope, -torch.einsum("ijab,jb->ia", kernel, net(x) - y).detach() / 5, rtol=1e-3, atol=1e-4)  # O(h)
    assert_close(flow.risk(0.0), square_risk(net(x), y).detach())


def test_a_scalar_kernel_and_its_pairs_agree(problem):
    kernel, _, y, _ = problem
    full = kernel[:, :, None, None] * torch.eye(2, dtype=torch.float64)
    pairs = GradientFlow(full, y)
    plain = flow_of(kernel, y)
    assert_close(pairs.train(2.0), plain.train(2.0))
    assert_close(pairs.risk(2.0), plain.risk(2.0))
    assert_close(pairs.displacement(2.0), plain.displacement(2.0))


@pytest.mark.parametrize("t", [-1.0, float("nan")])
def test_impossible_times_are_refused(problem, t):
    with pytest.raises(ValueError, match="the time t as a number of at least 0"):
        flow_of(problem[0], problem[2]).train(t)


def test_a_zero_kernel_without_ridge_is_as_ill_posed_as_can_be():
    zero, y = torch.zeros(2, 3, 3, dtype=torch.float64), torch.ones(2, 3, 1, dtype=torch.float64)
    zero[1] = torch.diag(torch.tensor([4.0, 2.0, 0.0]))
    for solved in (kernel_ridge(zero, y), GradientFlow(zero, y)):
        assert solved.rank.tolist() == [0, 2]
        assert solved.condition.tolist() == [float("inf"), 2.0]
    assert kernel_ridge(zero[0], y[0], ridge=0.1).condition == 1
