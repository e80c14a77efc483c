import pytest
import torch
from torch.testing import assert_close

from regimes.tangent.held_out import effective_dimension, empirical_modes, learning_curve, leave_one_out
from regimes.tangent.regression import kernel_ridge, predict
from regimes.tangent.spectrum import merge_outputs


def gaussian(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("k", [1, 2])
def test_leaving_one_out_by_the_formula_is_fitting_without_it(ridge, k):
    features, y = gaussian(6, k, 20), gaussian(6, k)
    full = torch.einsum("iap,jbp->ijab", features, features)
    plain = features[:, 0] @ features[:, 0].T
    for kernel in (full, plain):
        found = leave_one_out(kernel, y, ridge=ridge)
        for i in range(6):
            rest = [j for j in range(6) if j != i]
            fit = kernel_ridge(kernel[rest][:, rest], y[rest], ridge=ridge * 6 / 5)  # the same n·ridge
            assert_close(found[i], predict(fit, kernel[[i]][:, rest])[0])


@pytest.mark.parametrize(
    ("kernel", "y", "ridge", "message"),
    [
        (torch.ones(3, 3), torch.ones(3, 1), 0.0, "2 eigenvalues of .* are zero to working precision"),
        (torch.ones(1, 1), torch.ones(1, 1), 0.1, "at least two samples"),
        (torch.eye(3), torch.full((3, 1), float("nan")), 0.1, "finite y"),
        (torch.full((3, 3), float("nan")), torch.ones(3, 1), 0.1, "finite entries"),
        (torch.eye(3), torch.ones(3, 1), -1.0, "ridge"),
    ],
)
def test_what_cannot_be_left_out_is_refused(kernel, y, ridge, message):
    with pytest.raises(ValueError, match=message):
        leave_one_out(kernel, y, ridge=ridge)


def test_the_effective_dimension_counts_the_directions_above_the_ridge():
    kernel = torch.diag(torch.tensor([3.0, 1.0, 0.0])).double()
    assert_close(effective_dimension(kernel, ridge=0.0).item(), 2.0)
    assert_close(effective_dimension(kernel, ridge=1 / 3).item(), 3 / 4 + 1 / 2)
    features = gaussian(4, 2, 20)
    full = torch.einsum("iap,jbp->ijab", features, features)
    values = torch.linalg.eigvalsh(merge_outputs(full))
    assert_close(effective_dimension(full, ridge=0.5), (values / (values + 4 * 0.5)).sum())


def measured(values, coefficients, n, ridge, noise, draws):
    """Test errors of fits to n Gaussian samples, exact over the test points: E (f − f*)² = ‖weights‖²."""
    errors = []
    for _ in range(draws):
        phi = gaussian(n, len(values))
        features = phi * values.sqrt()
        y = phi @ coefficients + noise**0.5 * gaussian(n, coefficients.shape[1])
        fit = kernel_ridge(features @ features.T, y, ridge=ridge)
        learned = values.sqrt()[:, None] * (features.T @ fit.coefficients)
        errors.append((learned - coefficients).square().sum() + noise * coefficients.shape[1])
    errors = torch.stack(errors)
    return errors.mean().item(), (errors.std() / draws**0.5).item()


@pytest.mark.slow
@pytest.mark.parametrize(("ridge", "noise"), [(0.0, 0.0), (1e-3, 0.0), (1e-2, 0.3)])
def test_the_predicted_curve_is_the_measured_one_on_gaussian_features(ridge, noise):
    values = torch.arange(1, 401, dtype=torch.float64) ** -1.5
    coefficients = (torch.arange(1, 401, dtype=torch.float64) ** -1.0)[:, None] * torch.tensor([[1.0, -0.5]]).double()
    predicted = learning_curve(values, coefficients, [20, 60, 200], ridge=ridge, noise=noise)
    for place, n in enumerate((20, 60, 200)):
        mean, error = measured(values, coefficients, n, ridge, noise, 30)
        assert abs(mean - predicted.error[place]) < 5 * error + 0.02 * mean  # the theory is one of large n


def test_all_modes_are_learned_with_as_many_samples_and_no_ridge_and_at_the_threshold_noise_explodes():
    values, coefficients = torch.tensor([1.0, 0.5, 0.1]).double(), torch.ones(3, 1).double()
    curve = learning_curve(values, coefficients, [3, 6], noise=0.5)
    assert_close(curve.learnability, torch.ones(2, 3, dtype=torch.float64))
    assert curve.error[0] == float("inf")
    assert_close(curve.error[1].item(), 0.5 * 6 / (6 - 3))


def test_a_mode_is_learned_by_one_sample_as_the_equation_says():
    """One mode, n = 1, ridge r: λ/(λ+κ) + r/κ = 1 gives κ² = r(λ + κ)."""
    value, ridge = 2.0, 0.3
    kappa = (ridge + (ridge**2 + 4 * ridge * value) ** 0.5) / 2
    curve = learning_curve(torch.tensor([value]), torch.tensor([[1.0]]), [1], ridge=ridge)
    assert_close(curve.learnability.item(), value / (value + kappa))


def test_modes_are_found_in_a_large_sample():
    values, n = torch.tensor([4.0, 1.0, 0.25]).double(), 4000
    phi = gaussian(n, 3)
    features, target = phi[:400] * values.sqrt(), phi[:400] @ torch.tensor([[1.0], [-2.0], [0.5]]).double()
    modes = empirical_modes(features @ features.T, target)
    assert len(modes.eigenvalues) == 3
    assert_close(modes.eigenvalues, values, rtol=0.3, atol=0)  # 1/√400 a few times
    assert_close(modes.coefficients.abs()[:, 0], torch.tensor([1.0, 2.0, 0.5]).double(), rtol=0, atol=0.3)  # the same


def test_what_the_kernel_cannot_learn_of_the_target_stays_in_the_error():
    """Linear kernel in 5 dimensions, target x_1 + x_1² − 1: of E y² = 3 a power of 2 is out of reach, as noise is."""
    x, ridge = gaussian(2000, 5), 1e-6
    linear, bent = x[:, :1], x[:, :1].square() - 1
    modes = empirical_modes(x[:400] @ x[:400].mT, (linear + bent)[:400])
    assert len(modes.eigenvalues) == 5 + 1
    assert modes.eigenvalues[-1] == 0
    assert_close(modes.coefficients.square().sum(), (linear + bent)[:400].square().mean())
    curve = learning_curve(*modes, [20, 60], ridge=ridge)
    noisy = learning_curve(modes.eigenvalues[:5], modes.coefficients[:5], [20, 60], ridge=ridge, noise=2.0)
    assert_close(curve.error, noisy.error, rtol=0.5, atol=0)  # 400 samples of x⁴ scatter by 0.2 of their mean
    errors = []
    for start in range(0, 1600, 60):
        fit = kernel_ridge(x[start : start + 60] @ x[start : start + 60].mT, (linear + bent)[start : start + 60])
        miss = predict(fit, x @ x[start : start + 60].mT) - linear - bent
        errors.append(float(miss.square().mean()))
    assert abs(sum(errors) / len(errors) - curve.error[1]) < 0.5 * curve.error[1]  # the same


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eigenvalues": torch.tensor([-1.0, 1.0])}, "eigenvalues"),
        ({"sizes": [0]}, "sizes"),
        ({"noise": float("nan")}, "noise"),
        ({"coefficients": torch.full((2, 1), float("inf"))}, "finite coefficients"),
    ],
)
def test_curves_of_nothing_are_refused(change, message):
    given = {"eigenvalues": torch.ones(2), "coefficients": torch.ones(2, 1), "sizes": [3]}
    with pytest.raises(ValueError, match=message):
        learning_curve(**given | change)
