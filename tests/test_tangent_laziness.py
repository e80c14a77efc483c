import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes.activations import ERF
from regimes.conventions import function_norm, generator
from regimes.models.two_layer import TwoLayer
from regimes.tangent.kernel import ntk
from regimes.tangent.laziness import activation_flips, alignment, cka, kernel_drift, tangent_distance, weight_motion


def test_weights_that_doubled_moved_by_their_size():
    start = [torch.randn(3, 4), torch.randn(5)]
    assert_close(weight_motion([2 * w for w in start], start), torch.tensor(1.0))
    assert_close(weight_motion(start, start), torch.tensor(0.0))


def test_the_motion_is_that_of_all_weights_as_one_vector():
    weights, start = [torch.randn(3, 4), torch.randn(5)], [torch.randn(3, 4), torch.randn(5)]
    whole, whole_start = (torch.cat([w.reshape(-1) for w in group]) for group in (weights, start))
    assert_close(weight_motion(weights, start), (whole - whole_start).norm() / whole_start.norm())


def test_every_measure_keeps_the_runs_apart():
    def runs(*shape):
        return torch.randn(3, *shape, dtype=torch.float64), torch.randn(3, *shape, dtype=torch.float64)

    (a, a0), (b, b0), (k, k0), (z, z0), (f, g) = runs(4, 2), runs(4, 5), runs(6, 6), runs(6, 4), runs(6, 2)
    together = [
        weight_motion([a, b], [a0, b0], runs=1),
        kernel_drift(k, k0),
        activation_flips(z, z0),
        tangent_distance(f, g),
        alignment(k, f),
    ]
    for run in range(3):
        alone = [
            weight_motion([a[run], b[run]], [a0[run], b0[run]]),
            kernel_drift(k[run], k0[run]),
            activation_flips(z[run], z0[run]),
            tangent_distance(f[run], g[run]),
            alignment(k[run], f[run]),
        ]
        assert_close(torch.stack([values[run] for values in together]), torch.stack(alone))


def test_a_kernel_scaled_by_one_plus_e_drifted_by_e():
    kernel = torch.randn(4, 4, dtype=torch.float64)
    assert_close(kernel_drift(1.25 * kernel, kernel).item(), 0.25)


def test_one_tensor_is_one_parameter():
    w, w0 = torch.randn(2, 3, 4, dtype=torch.float64)
    assert_close(weight_motion(w, w0), (w - w0).norm() / w0.norm())
    assert_close(weight_motion(w, w0, runs=1), (w - w0).norm(dim=1) / w0.norm(dim=1))
    assert_close(weight_motion([w, w], [w0, w0]), weight_motion(w, w0))


def test_the_drift_of_a_kernel_with_outputs_is_one_number():
    kernel, start = torch.randn(2, 5, 4, 3, 3, dtype=torch.float64)
    expected = (kernel - start).norm() / start.norm()
    assert_close(kernel_drift(kernel, start), expected)
    assert_close(kernel_drift(kernel[None], start[None]), expected[None])
    inside = torch.stack([kernel_drift(a, b) for a, b in zip(kernel.flatten(0, 1), start.flatten(0, 1), strict=True)])
    assert_close(kernel_drift(kernel, start, runs=2), inside.view(5, 4))
    with pytest.raises(ValueError, match=r"kernel_drift needs kernels \(n, m\) or \(n, m, k, k\).*Pass runs="):
        kernel_drift(kernel[..., :2], start[..., :2])


@pytest.mark.parametrize("runs", [(3, 3), (3, 2), (1, 4), (2, 3, 3)])
def test_kernels_of_two_axes_of_runs_are_not_taken_for_one_with_outputs(runs):
    z, z0 = torch.randn(2, *runs, 5, 7)
    kernel, start = z @ z.mT, z0 @ z0.mT
    with pytest.raises(ValueError, match=rf"Pass runs={len(runs) - 2} for the first, runs={len(runs)} for the second"):
        kernel_drift(kernel, start)
    assert_close(
        kernel_drift(kernel, start, runs=len(runs)),
        kernel_drift(kernel.view(-1, 5, 5), start.view(-1, 5, 5)).view(runs),
    )
    assert kernel_drift(kernel, start, runs=len(runs) - 2).shape == runs[:-2]


def test_the_full_kernel_of_a_net_has_one_drift():
    x1, x2 = torch.randn(6, 3), torch.randn(4, 3)
    deep = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    shallow = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    for model in (nn.Linear(3, 2), shallow, deep):
        kernel = ntk(model, x1)
        assert_close(kernel_drift(1.25 * kernel, kernel).item(), 0.25)
        assert_close(kernel_drift(1.25 * kernel[None], kernel[None]), torch.tensor([0.25]))
    kernel = ntk(deep, x1, x2)
    assert_close(kernel_drift(1.25 * kernel, kernel).item(), 0.25)
    kernel = ntk(shallow, x1, x2)  # each Θ(x_i, x_j) of one hidden layer is symmetric: it looks like one of two samples
    assert_close(kernel_drift(1.25 * kernel, kernel, runs=0).item(), 0.25)


def test_flips_are_counted_over_pairs_of_unit_and_input():
    start = torch.tensor([[1.0, -1.0], [2.0, -2.0]])
    after = torch.tensor([[1.0, 0.5], [3.0, -2.0]])
    assert activation_flips(after, start) == 0.25
    assert activation_flips(-start, start) == 1.0
    assert activation_flips(start, start) == 0.0


def test_the_tangent_distance_is_relative_in_the_function_norm():
    f, tangent = torch.randn(6, 2, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    assert_close(tangent_distance(f, tangent), function_norm(f - tangent) / function_norm(tangent))


def test_the_alignment_is_one_for_the_kernel_of_the_targets_and_zero_for_what_they_do_not_touch():
    y = torch.tensor([[1.0], [1.0], [-1.0]], dtype=torch.float64)
    assert_close(alignment(3 * y @ y.T, y).item(), 1.0)
    other = torch.tensor([[1.0], [0.0], [1.0]], dtype=torch.float64)
    assert_close(alignment(other @ other.T, y).item(), 0.0)
    assert_close(alignment(torch.eye(3, dtype=torch.float64), y).item(), 3 / (3**0.5 * 3))


def test_preactivations_of_a_net_that_turned_around_have_all_flipped():
    net = TwoLayer(3, 5, activation=ERF, generator=generator(0))
    x = torch.randn(7, 3, dtype=torch.float64)
    before = net.preactivations(x).detach()
    with torch.no_grad():
        net.input_weights.neg_()
    assert activation_flips(net.preactivations(x), before) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: weight_motion([], []), "at least one; got 0 and 0"),
        (lambda: weight_motion([torch.ones(2)], [torch.ones(2), torch.ones(2)]), "got 1 and 2"),
        (lambda: weight_motion([torch.ones(2)], [torch.zeros(2)]), "is zero"),
        (lambda: kernel_drift(torch.ones(2, 2), torch.zeros(2, 2)), "is zero"),
        (lambda: tangent_distance(torch.ones(2, 1), torch.zeros(2, 1)), "the tangent model is zero"),
        (lambda: alignment(torch.eye(2), torch.zeros(2, 1)), "nonzero targets"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("size", [1e-25, 1e-22, 1e18])
def test_measures_do_not_depend_on_the_unit_in_single_precision(size):
    source = torch.Generator().manual_seed(0)
    a, b, y = (torch.randn(5, 5, generator=source) for _ in range(3))
    one, two = a @ a.mT, b @ b.mT
    assert_close(cka(size * one, size * two), cka(one, two))
    assert_close(alignment(size * one, size * y), alignment(one, y))
    assert_close(weight_motion([size * a, size * b], [size * b, size * y]), weight_motion([a, b], [b, y]))
