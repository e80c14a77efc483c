"""Numbers of kernels by probes beside those of the kernels themselves."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes import ntk, tangent_operator
from regimes.conventions import generator
from regimes.tangent import estimates, laziness
from regimes.tangent.gram.footprint import most_bytes
from regimes.tangent.probing import Probed, _orthonormal, probe
from regimes.tangent.spectrum import merge_outputs

pytestmark = pytest.mark.slow


def two_nets(k=2, n=14):
    """A net, the same net after some training, inputs and targets."""
    net = nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, k)).double()
    x, y = torch.randn(n, 3, dtype=torch.float64), torch.randn(n, k, dtype=torch.float64)
    start = copy.deepcopy(net)
    optimiser = torch.optim.SGD(net.parameters(), 0.2)
    for _ in range(30):
        optimiser.zero_grad()
        (net(x) - y).square().mean().backward()
        optimiser.step()
    return start, net, x, y


def centring(n, k):
    """H for outputs merged sample by sample."""
    return torch.kron(torch.eye(n) - 1 / n, torch.eye(k)).double()


def truths(start, net, x, y, centred):
    before, after = (merge_outputs(ntk(each, x)) for each in (start, net))
    if centred:
        h = centring(*y.shape)
        before, after, y = h @ before @ h, h @ after @ h, y - y.mean(0)
    y = y.reshape(-1)
    return {
        "trace": before.trace(),
        "norm": before.norm(),
        "drift": laziness.kernel_drift(after, before),
        "similarity": (before * after).sum() / (before.norm() * after.norm()),
        "alignment": y @ before @ y / (y @ y * before.norm()),
        "trace_alignment": y @ before @ y / (y @ y * before.trace()),
    }


def estimated(before, after):
    one = {name: getattr(estimates, name)(before) for name in ("trace", "norm", "alignment", "trace_alignment")}
    return one | {name: getattr(estimates, name)(before, after) for name in ("drift", "similarity")}


@pytest.mark.parametrize("centred", [False, True])
def test_as_many_directions_as_the_space_has_give_the_numbers_of_the_kernels(centred):
    start, net, x, y = two_nets()
    operators = [tangent_operator(each, x) for each in (start, net)]
    probed = probe(operators, y, generator=generator(0), probes=28, centred=centred)
    assert [each.passes for each in probed] == [28, 28]
    found = estimated(*probed)
    for name, truth in truths(start, net, x, y, centred).items():
        value, error, low, high, probes = found[name]
        assert_close(value, float(truth))
        assert error == 0
        assert low == value == high
        assert probes == 0


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("sketched", [0, 4, None])
def test_estimates_lie_within_five_standard_errors(sketched, centred):
    start, net, x, y = two_nets()
    operators = [tangent_operator(each, x) for each in (start, net)]
    probed = probe(operators, y, generator=generator(1), probes=12, sketched=sketched, centred=centred)
    found = estimated(*probed)
    for name, truth in truths(start, net, x, y, centred).items():
        assert abs(found[name].value - float(truth)) < 5 * found[name].error, name
        assert found[name].low < found[name].value < found[name].high
        assert found[name].probes == 12


def explicit(kernel, basis, signs):
    """What `probe` gives for an operator with that kernel."""
    directions = torch.cat([basis, signs - basis @ (basis.T @ signs)], 1)
    target = torch.zeros(directions.shape[1]).double()
    target[0] = 1
    return Probed(directions.T @ kernel @ directions, basis.shape[1], target, False, 0)


def kernels(size=20):
    """A kernel with one large eigenvalue, and another near it."""
    factor, other = torch.randn(2, size, size, dtype=torch.float64)
    before = factor @ factor.T + 20 * torch.ones(size, size, dtype=torch.float64)
    return before, before + 0.3 * other @ other.T


def test_traces_and_squared_norms_have_no_bias():
    before, after = kernels()
    basis = torch.linalg.qr(torch.randn(20, 2, dtype=torch.float64))[0]
    samples = []
    for _ in range(400):
        signs = torch.randint(0, 2, (20, 4)).double() * 2 - 1
        one, two = explicit(before, basis, signs), explicit(after, basis, signs)
        moved = two._replace(products=two.products - one.products)
        squares = [estimates._inner(a, b, torch.arange(2, 6)) for a, b in ((one, one), (one, two), (moved, moved))]
        samples.append([estimates.trace(one).value, *squares])
    found = torch.tensor(samples, dtype=torch.float64)
    truth = [before.trace(), before.square().sum(), (before * after).sum(), (after - before).square().sum()]
    off = (found.mean(0) - torch.stack(truth)) / (found.std(0) / 20)
    assert (off.abs() < 5).all(), off
    assert (found.std(0) > 1e-3 * found.mean(0)).all()  # there was something to average


@pytest.mark.parametrize("fixed", [0, 3])
def test_nine_of_ten_intervals_hold_the_number(fixed):
    """The rule asks for 95 %; with 12 directions the scale and the jackknife are near that, not at it."""
    before, after = kernels()
    truth = {
        "trace": before.trace(),
        "norm": before.norm(),
        "drift": (after - before).norm() / before.norm(),
        "similarity": (before * after).sum() / (before.norm() * after.norm()),
    }
    hits = dict.fromkeys(truth, 0)
    for _ in range(200):
        basis = _orthonormal(list((before @ torch.randn(20, fixed).double()).T), 20)
        signs = torch.randint(0, 2, (20, 12)).double() * 2 - 1
        one, two = explicit(before, basis, signs), explicit(after, basis, signs)
        found = {
            "trace": estimates.trace(one),
            "norm": estimates.norm(one),
            "drift": estimates.drift(one, two),
            "similarity": estimates.similarity(one, two),
        }
        for name, each in found.items():
            hits[name] += each.low <= float(truth[name]) <= each.high
    assert min(hits.values()) > 0.86 * 200, hits  # 0.90 minus two standard errors of 200 trials


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_nine_of_ten_intervals_hold_the_number_where_the_spectrum_decays(power):
    """With 16 probes, half as many sketched ones, and eigenvalues 1/i or 1/i²: 0.90 to 0.95 as the module says."""
    one, other = (torch.linalg.qr(torch.randn(60, 60, dtype=torch.float64)).Q for _ in range(2))
    values = torch.diag(torch.arange(1.0, 61.0, dtype=torch.float64) ** -power)
    before = one @ values @ one.T
    after = before + 0.3 * other @ values @ other.T
    drift = float((after - before).norm() / before.norm())
    alike = float((before * after).sum() / (before.norm() * after.norm()))
    hits = {"drift": 0, "similarity": 0}
    for _ in range(200):
        columns = torch.cat([before @ torch.randn(60, 4).double(), after @ torch.randn(60, 4).double()], 1)
        basis, signs = _orthonormal(list(columns.T), 60), torch.randint(0, 2, (60, 16)).double() * 2 - 1
        probed = explicit(before, basis, signs), explicit(after, basis, signs)
        for name, truth in (("drift", drift), ("similarity", alike)):
            found = getattr(estimates, name)(*probed)
            hits[name] += found.low <= truth <= found.high
    assert min(hits.values()) > 0.86 * 200, hits  # 0.90 minus two standard errors of 200 trials


def test_intervals_keep_to_their_range():
    start, net, x, y = two_nets(k=1, n=30)
    operators = [tangent_operator(each, x) for each in (start, net)]
    for seed in range(5):
        found = estimated(*probe(operators, y, generator=generator(seed), probes=3, sketched=0))
        assert all(each.low >= 0 for name, each in found.items() if name != "similarity")
        assert found["similarity"].low >= -1
        assert all(found[name].high <= 1 for name in ("similarity", "alignment", "trace_alignment"))


def test_a_kernel_that_stood_still_has_no_drift_and_no_doubt():
    start, _, x, _ = two_nets()
    probed = probe([tangent_operator(start, x), tangent_operator(start, x)], generator=generator(0), probes=5)
    assert estimates.drift(*probed)[:4] == (0, 0, 0, 0)
    assert_close(estimates.similarity(*probed).value, 1.0)


def test_sketched_directions_take_the_largest_eigenvalue_out_of_the_noise():
    start, _, x, _ = two_nets(k=1, n=60)
    operator = tangent_operator(start, x)
    plain, sketched = (
        estimates.norm(probe([operator], generator=generator(0), probes=10, sketched=q)[0]) for q in (0, 4)
    )
    assert sketched.error < plain.error / 3


def test_the_short_forms_give_the_same_numbers():
    start, net, x, y = two_nets()
    before, after = tangent_operator(start, x), tangent_operator(net, x)
    options = {"generator": generator(3), "probes": 6}
    both = probe([before, after], generator=generator(3), probes=6)
    assert estimates.drift_estimate(before, after, **options) == estimates.drift(*both)
    one = probe([before], generator=generator(3), probes=6)[0]
    assert estimates.kernel_trace(before, generator=generator(3), probes=6) == estimates.trace(one)
    assert estimates.kernel_norm(before, generator=generator(3), probes=6) == estimates.norm(one)
    with_y = probe([before], y, generator=generator(3), probes=6, centred=True)[0]
    assert estimates.alignment_estimate(before, y, generator=generator(3), probes=6) == estimates.alignment(with_y)


def test_many_samples_cost_passes_and_no_matrix():
    net, x = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), torch.randn(6000, 4)
    operator = tangent_operator(net, x, memory=2**21)
    taken, probed = most_bytes(lambda: probe([operator], generator=generator(0), probes=6, sketched=2), [x])
    assert probed[0].passes == 6 + 2 + 2 * 2
    assert taken < 2**21 + 12 * 8 * 8 * x.shape[0] * 2  # directions in float64, some copies of them
    assert taken < x.shape[0] ** 2  # a byte for each pair of samples would be more


def test_derivatives_that_do_not_fit_into_memory_wait_in_a_file():
    start, _, x, _ = two_nets()
    sizes = (2**29, 2**11)  # the second holds one derivative, and not all of them
    one, other = (
        probe([tangent_operator(start, x, memory=memory)], generator=generator(0), probes=6)[0] for memory in sizes
    )
    assert_close(one.products, other.products)


def test_a_model_without_forward_mode_is_probed_by_backward_passes_alone():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return 2 * ctx.saved_tensors[0] * grad

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2).double()

        def forward(self, x):
            return Square.apply(self.layer(x))

    model, x = Net(), torch.randn(9, 3, dtype=torch.float64)
    operator = tangent_operator(model, x)
    assert not operator.tangent.found.forward
    (probed,) = probe([operator], generator=generator(0), probes=5)
    assert (probed.fixed, probed.random, probed.passes) == (0, 5, 5)
    found = estimates.trace(probed)
    assert abs(found.value - float(merge_outputs(ntk(model, x)).trace())) < 5 * found.error


def test_complex_parameters_count_as_two():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 2, dtype=torch.complex128))

        def forward(self, x):
            return (x.to(torch.complex128) @ self.weight).abs()

    model, x = Net(), torch.randn(4, 3, dtype=torch.float64)
    (probed,) = probe([tangent_operator(model, x)], generator=generator(0), probes=8)
    assert_close(estimates.norm(probed).value, float(ntk(model, x).norm()))


def test_bad_input_is_named():
    start, net, x, y = two_nets()
    one, other = tangent_operator(start, x), tangent_operator(net, x + 1)
    source = generator(0)
    with pytest.raises(ValueError, match="on one set of samples"):
        probe([one, other], generator=source)
    with pytest.raises(ValueError, match="at least 3"):
        probe([one], generator=source, probes=2)
    with pytest.raises(ValueError, match="needs y"):
        probe([one], y[:, :1], generator=source)
    with pytest.raises(ValueError, match="finite y"):
        probe([one], y * float("nan"), generator=source)
    with pytest.raises(ValueError, match="not all equal"):
        probe([one], torch.ones_like(y), generator=source, centred=True)
    with pytest.raises(ValueError, match="two samples"):
        probe([tangent_operator(start, x[:1])], generator=source, centred=True)
    with pytest.raises(ValueError, match="Pass y"):
        estimates.alignment(probe([one], generator=source, probes=3)[0])
    with pytest.raises(ValueError, match="one dtype"):
        probe([one, tangent_operator(copy.deepcopy(start).float(), x.float())], generator=source)
    with pytest.raises(ValueError, match="in one call"):
        estimates.drift(*(probe([one], generator=source, probes=m)[0] for m in (3, 4)))


def test_kernels_probed_in_two_calls_have_no_common_directions():
    _, net, x, _ = two_nets()
    (one,), (other,) = (probe([tangent_operator(net, x)], generator=generator(seed), probes=4) for seed in (1, 2))
    for number in (estimates.drift, estimates.similarity):
        with pytest.raises(ValueError, match="in one call of probe"):
            number(one, other)


def test_a_kernel_that_only_looks_like_zero_is_no_kernel_of_zero():
    """Of two orthogonal directions that the kernel exchanges with others the products off the diagonal are zero."""
    seen = Probed(torch.eye(3, dtype=torch.float64), 0, None, False, 0)
    with pytest.raises(ValueError, match="3 random directions are too few"):
        estimates.drift(seen, seen)
    with pytest.raises(ValueError, match="start that is not zero"):
        estimates.drift(seen._replace(products=0 * seen.products), seen)
