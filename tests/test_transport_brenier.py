import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes.eigenvalues import least_eigenvalues
from regimes.transport import brenier
from regimes.transport.brenier import CONSTANT, FLAT, JacobianProducts, NoJacobianTest, brenier_test, ratio
from regimes.transport.gap import ot_gap
from regimes.transport.gaussian import bures_map


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def convex_gradient(d, seed=1):
    """Gradient of ‖x‖²/4 + Σ_k log(1 + exp(w_k·x))."""
    w = draw(d, 2 * d, seed=seed) / math.sqrt(d)
    return lambda x: x / 2 + torch.sigmoid(x @ w) @ w.T


def skewed(d, seed=2):
    s = draw(d, d, seed=seed)
    return (s - s.T) / math.sqrt(2 * d)


@pytest.mark.parametrize("d", [2, 16, 256])
def test_the_gradient_of_a_random_convex_function_passes(d):
    found = brenier_test(convex_gradient(d), draw(50, d), generator=generator())
    assert found.asymmetry < 1e-28
    assert found.min_eigenvalue > 0.5 - 1e-9
    assert (found.points, found.excluded) == (50, 0)


def test_a_rotation_by_20_degrees_is_as_asymmetric_as_its_tangent_squared():
    turn = math.radians(20)
    matrix = torch.tensor([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]], dtype=torch.float64)
    found = brenier_test(lambda x: x @ matrix, draw(100, 2), generator=generator())
    assert_close(found.asymmetry, math.tan(turn) ** 2)  # ‖2 sin S v‖² / ‖2 cos v‖²
    assert_close(found.min_eigenvalue, math.cos(turn))


def test_a_shear_is_asymmetric():
    found = brenier_test(lambda x: x + 0.5 * x.flip(1) * torch.tensor([1.0, 0.0]), draw(400, 2), generator=generator())
    # J − Jᵀ has norm² 2·0.25, J + Jᵀ has 4 + 4 + 2·0.25
    assert abs(found.asymmetry - 0.5 / 8.5) < 5 * found.asymmetry_se
    assert found.asymmetry_se < 0.02


def test_the_asymmetry_of_a_linear_map_is_the_ratio_of_its_parts_within_its_error():
    d = 20
    symmetric = torch.eye(d, dtype=torch.float64)
    s = 0.3 * skewed(d)
    found = brenier_test(lambda x: x @ (symmetric + s), draw(300, d), generator=generator(), probes=2)
    truth = float((2 * s).square().sum() / (2 * symmetric).square().sum())
    assert abs(found.asymmetry - truth) < 5 * found.asymmetry_se


def test_a_concave_gradient_is_symmetric_but_not_positive():
    found = brenier_test(lambda x: -x, draw(20, 3), generator=generator())
    assert found.asymmetry == 0
    assert_close(found.min_eigenvalue, -1.0)


@pytest.mark.parametrize("p", [1.5, 3.0])
def test_maps_optimal_for_another_exponent_pass_at_that_exponent_only(p):
    # T(x) = x − |∇φ|^(q−2) ∇φ, 1/p + 1/q = 1 (up to scale), φ small and smooth: optimal for ‖x − y‖^p.
    w = draw(4, 6, seed=3) / 2
    q = p / (p - 1)

    def transported(x):
        slope = 0.1 * (torch.tanh(x @ w) @ w.T + 3)
        return x - slope.norm(dim=1, keepdim=True) ** (q - 2) * slope

    x = draw(60, 4)
    right, wrong = (brenier_test(transported, x, generator=generator(), p=exponent) for exponent in (p, 2.0))
    assert right.asymmetry < 1e-26
    assert wrong.asymmetry > 1e-6


@pytest.mark.parametrize("p", [1.5, 2.0, 3.0])
def test_products_are_those_of_the_written_out_jacobian(p):
    t, x, v = convex_gradient(3), draw(5, 3), draw(5, 3, seed=9)
    operator = JacobianProducts(t, x, p)

    def derivative_of_cost(z):  # ½ D h(x − T(x)), h = ‖·‖^p
        z = z - t(z[None])[0]
        return p / 2 * z.norm() ** (p - 2) * z

    def curvature(z):  # ½ D²h at x − T(x), the target held fixed
        at = t(z[None])[0].detach()
        return torch.func.jacrev(lambda s: p / 2 * (s - at).norm() ** (p - 2) * (s - at))(z)

    matrices = torch.stack([curvature(z) - torch.func.jacrev(derivative_of_cost)(z) for z in x])
    assert_close(operator.forward(v), torch.einsum("nij,nj->ni", matrices, v))
    assert_close(operator.backward(v), torch.einsum("nij,ni->nj", matrices, v))


@pytest.mark.parametrize("d", [5, 60])
def test_least_eigenvalues_are_those_of_the_matrices(d):
    a = draw(4, d, d)
    a = (
        a
        + a.transpose(1, 2)
        - 8 * math.sqrt(d) * torch.eye(d).unsqueeze(0) * torch.tensor([0.0, 1, 2, 3])[:, None, None]
    )
    a[:, 0, 0] -= 10 * math.sqrt(d)  # stands apart, so that Lanczos has it
    found = least_eigenvalues(lambda v: torch.einsum("nij,nj->ni", a, v), draw(4, d), generator=generator())
    assert_close(found, torch.linalg.eigvalsh(a)[:, 0])


def test_lanczos_goes_on_after_an_invariant_subspace():
    scale = torch.ones(60, dtype=torch.float64)
    scale[7] = -3.0  # two eigenvalues only: every Krylov space has dimension 2
    found = least_eigenvalues(lambda v: scale * v, draw(3, 60), generator=generator())
    assert_close(found, torch.full((3,), -3.0, dtype=torch.float64))


def test_gaussian_maps_pass_and_images_keep_their_shape():
    a = draw(12, 12)
    eye = torch.eye(12, dtype=torch.float64)
    optimal = bures_map(torch.zeros(12, dtype=torch.float64), eye, torch.ones(12, dtype=torch.float64), a @ a.T + eye)
    found = brenier_test(lambda x: optimal(x.flatten(1)).reshape(x.shape), draw(9, 3, 2, 2), generator=generator())
    assert found.asymmetry < 1e-28
    assert_close(found.min_eigenvalue, float(torch.linalg.eigvalsh(optimal.matrix)[0]))


def test_batch_norm_in_train_mode_is_refused_and_passes_in_eval_mode():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)).double()
    x = draw(8, 4)
    with pytest.raises(ValueError, match=r"statistics of the batch: call model.eval\(\)"):
        brenier_test(net, x, generator=generator())
    with pytest.raises(ValueError, match="maps each sample by itself"):
        brenier_test(lambda z: net(z), x, generator=generator())
    assert brenier_test(net.eval(), x, generator=generator()).asymmetry > 0


def test_random_constant_misshapen_and_diverged_maps_are_refused():
    x = draw(8, 4)
    with pytest.raises(ValueError, match="NaN or infinite"):
        brenier_test(lambda z: z / 0, x, generator=generator())
    with pytest.raises(ValueError, match="draws random numbers"):
        brenier_test(nn.Dropout(0.5), x, generator=generator())
    with pytest.raises(ValueError, match="same output each time"):
        brenier_test(lambda z: z + torch.rand_like(z), x, generator=generator())
    with pytest.raises(NoJacobianTest, match="constant") as constant:
        brenier_test(lambda z: 0 * z, x, generator=generator())
    with pytest.raises(NoJacobianTest, match="values differ") as flat:
        brenier_test(lambda z: z.round(), x, generator=generator())
    assert (constant.value.reason, flat.value.reason) == (CONSTANT, FLAT)
    with pytest.raises(ValueError, match="keeps the shape"):
        brenier_test(lambda z: z[:, :2], x, generator=generator())
    with pytest.raises(ValueError, match="no point moves"):
        brenier_test(lambda z: 1 * z, x, generator=generator(), p=1.5)
    with pytest.raises(ValueError, match="x is empty"):
        brenier_test(lambda z: z, x[:0], generator=generator())


def test_points_that_stay_have_no_second_derivative_and_are_counted():
    found = brenier_test(lambda z: z + z.relu(), draw(40, 1), generator=generator(), p=3.0)
    assert found.excluded > 0
    assert found.points + found.excluded == 40


def test_the_error_of_a_ratio_is_that_of_repeated_draws():
    above, below = draw(2000, 50).square(), draw(2000, 50, seed=1).square() + 1
    values, errors = zip(*[ratio(a, b) for a, b in zip(above, below, strict=True)], strict=True)
    spread = torch.tensor(values).std()
    assert_close(torch.tensor(errors).mean(), spread, rtol=0.1, atol=0)  # 2,000 draws know a spread to 1.6 %
    assert math.isnan(ratio(above[0, :1], below[0, :1])[1])


def test_the_size_is_the_root_mean_square_eigenvalue():
    scale = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    found = brenier_test(lambda x: scale * x, draw(3000, 3), generator=generator())
    assert_close(found.size, math.sqrt(30 / 3), rtol=0.03, atol=0)  # 24,000 probes know a mean square to 1 %


def test_without_eigen_points_there_is_no_eigenvalue():
    found = brenier_test(lambda x: 2 * x, draw(20, 40), generator=generator(), eigen_points=0)
    assert math.isnan(found.min_eigenvalue)
    assert found.asymmetry == 0


def test_the_way_of_differentiation_is_looked_for_once_and_layers_are_looked_at_once(monkeypatch):
    calls = []
    for name in ("road_for", "require_deterministic"):
        plain = getattr(brenier, name)
        monkeypatch.setattr(brenier, name, lambda *given, plain=plain, name=name: calls.append(name) or plain(*given))
    brenier_test(nn.Linear(4, 4).double(), draw(20, 4), generator=generator(), encoder=nn.Linear(4, 4).double())
    assert sorted(calls) == ["require_deterministic"] * 2 + ["road_for"]


@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm:FutureWarning")
@pytest.mark.parametrize("name", ["map", "encoder"])
def test_a_net_in_16_bits_with_a_weight_that_is_formed_from_others_is_taken(name):
    net = nn.utils.weight_norm(nn.Linear(4, 4)).bfloat16()
    net(draw(2, 4).bfloat16())
    plain = nn.Linear(4, 4)
    plain.load_state_dict({"weight": net.weight.detach().float(), "bias": net.bias.detach().float()})
    maps = {"map": (net, plain), "encoder": (lambda z: z.square(),) * 2}[name]
    encoders = {"map": (None, None), "encoder": (net, plain)}[name]
    found, expected = (
        brenier_test(map_, draw(20, 4).to(dtype), generator=generator(), encoder=encoder)
        for map_, encoder, dtype in zip(maps, encoders, (torch.bfloat16, torch.float32), strict=True)
    )
    assert found.asymmetry == pytest.approx(expected.asymmetry, rel=0.05)  # bfloat16 rounds the norm of each row


def test_chunks_of_points_give_the_same_asymmetry(monkeypatch):
    s = torch.eye(4, dtype=torch.float64) + 0.2 * skewed(4)
    whole, parts = [], []
    for found, chunk in ((whole, 2**19), (parts, 12)):
        monkeypatch.setattr("regimes.transport.brenier.CHUNK", chunk)
        found.append(brenier_test(lambda x: x @ s, draw(50, 4), generator=generator()))
    assert abs(whole[0].asymmetry - parts[0].asymmetry) < 5 * math.hypot(whole[0].asymmetry_se, parts[0].asymmetry_se)
    assert (parts[0].points, parts[0].probes) == (50, 8)


def test_directions_off_the_image_of_the_encoder_do_not_count():
    a = draw(3, 2, seed=4)  # an image of dimension 2 in 3 features
    off = torch.linalg.svd(a)[0][:, 2]
    turn = torch.outer(off, a[:, 0]) - torch.outer(a[:, 0], off)  # skew, and blind to pairs of directions on the image

    def turned(z):
        return z + 0.5 * z @ turn

    x = draw(80, 2)
    assert brenier_test(turned, x @ a.T, generator=generator()).asymmetry > 0.01
    on_image = brenier_test(turned, x, generator=generator(), encoder=lambda inputs: inputs @ a.T)
    assert on_image.asymmetry < 1e-28
    assert_close(on_image.min_eigenvalue, float(torch.linalg.eigvalsh(a.T @ a)[0]))


@pytest.mark.parametrize("p", [1.5, 2.0])
def test_products_through_an_encoder_are_those_of_the_written_out_form(p):
    t, encoder, x, v = convex_gradient(3), lambda z: torch.tanh(z @ draw(2, 3, seed=7)), draw(5, 2), draw(5, 2, seed=9)
    through, inside = JacobianProducts(t, x, p, encoder), JacobianProducts(t, encoder(x), p)
    jacobian = torch.stack([torch.func.jacrev(lambda z: encoder(z[None])[0])(z) for z in x])

    def pulled(product):
        return torch.einsum("nij,ni->nj", jacobian, product(torch.einsum("nij,nj->ni", jacobian, v)))

    assert_close(through.forward(v), pulled(inside.forward))
    assert_close(through.backward(v), pulled(inside.backward))


def test_an_encoder_that_mixes_samples_is_refused():
    with pytest.raises(ValueError, match=r"\(encoder\) needs a model that maps each sample by itself"):
        brenier_test(lambda z: 2 * z, draw(8, 4), generator=generator(), encoder=lambda x: x - x.mean(0))
    norm = nn.BatchNorm1d(4).double()
    with pytest.raises(ValueError, match="statistics of the batch"):
        brenier_test(lambda z: 2 * z, draw(8, 4), generator=generator(), encoder=norm)
    assert brenier_test(lambda z: 2 * z, draw(8, 4), generator=generator(), encoder=norm.eval()).asymmetry < 1e-28


@torch.no_grad()
def stopped(z):
    return 2 * z


HALTED = {
    "no_grad": stopped,  # forward mode does not heed it: the skew part would look as large as the symmetric one
    "no_grad around a module": torch.no_grad()(nn.Linear(4, 4).double()),
    "detach of a part": lambda z: z + (3 * z).detach(),
    "detach of all": lambda z: (3 * z).detach(),
    "straight through": lambda z: z + ((5 * z).round() - z).detach(),
    "a gradient without its graph": lambda z: torch.autograd.grad(z.pow(4).sum(), z)[0],
    "numbers": lambda z: torch.tensor((2 * z.detach()).tolist(), dtype=z.dtype),
}


@pytest.mark.parametrize("name", HALTED)
def test_a_map_that_stops_gradients_is_refused(name):
    with pytest.raises(ValueError, match="stops gradients"):
        brenier_test(HALTED[name], draw(8, 4), generator=generator())
    with pytest.raises(ValueError, match="stops gradients"):
        ot_gap(draw(8, 4), HALTED[name])


def steep(z, stop=False):
    """A deep net of kinks, whose derivative turns over within a small part of the largest entry."""
    for layer in range(8):
        w = draw(2, 64, 64, seed=layer).to(z) / 8
        added = 1.3 * (z @ w[0]).relu() @ w[1]
        z = z + (added.detach() if stop and layer == 7 else added)
    return z


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_net_that_bends_within_a_small_step_is_taken_and_refused_where_it_stops_gradients(dtype):
    x = draw(32, 64, seed=3).to(dtype)
    x[0, 0] = 100
    assert brenier_test(steep, x, generator=generator(), eigen_points=0).asymmetry > 0.1
    with pytest.raises(ValueError, match="stops gradients"):
        brenier_test(lambda z: steep(z, stop=True), x, generator=generator(), eigen_points=0)


def test_derivatives_that_overflow_give_nan_and_no_eigenvalue():
    found = brenier_test(lambda z: z.relu().sqrt(), draw(8, 4), generator=generator())
    assert math.isnan(found.asymmetry)
    assert math.isnan(found.min_eigenvalue)
