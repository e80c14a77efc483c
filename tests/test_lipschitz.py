import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import regimes
from regimes.models.blocks import basic
from regimes.models.build import build
from regimes.models.contractive import ContractiveStep, NormedLinear, UnitRows
from regimes.models.gradient_blocks import GradientField
from regimes.models.lipschitz import (
    certified_radius,
    class_bounds,
    lipschitz_bound,
    margin_cross_entropy,
    radii,
)
from regimes.models.residual import Block, ResidualNet, Segment


def largest_slope(net, shape):
    """The largest norm of a Jacobian at some inputs: below every Lipschitz constant."""
    net = net.double().eval()
    found = []
    for _ in range(4):
        x = torch.randn(shape, dtype=torch.float64)
        jacobian = torch.func.jacrev(lambda one: net(one[None])[0])(x).flatten(1)
        found.append(float(torch.linalg.matrix_norm(jacobian.detach().reshape(-1, x.numel()), 2)))
    return max(found)


IMAGE = (2, 6, 6)
NETS = {
    "linear": (lambda: nn.Linear(5, 4), (5,)),
    "pooled": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.MaxPool2d(2), nn.AvgPool2d(3)), IMAGE),
    "strided": (lambda: nn.Conv2d(2, 3, 5, stride=2, padding=2), IMAGE),
    "dilated": (lambda: nn.Conv2d(2, 4, 3, dilation=2, groups=2), IMAGE),
    "leaky": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 3), nn.LeakyReLU(-2.0)), IMAGE),
    "block": (lambda: Block(basic(2), scale=0.5), IMAGE),
    "resnet9": (lambda: build("resnet9", (1, 6, 6), 3, filters=4, blocks=2), (1, 6, 6)),
    "contractive": (lambda: build("contractive", IMAGE, 3, unshuffle=2, filters=8, blocks=2, width=6), IMAGE),
}


@pytest.mark.parametrize("name", NETS)
def test_no_slope_is_above_the_bound(name):
    make, shape = NETS[name]
    net = make()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.1, 2.0)
    assert largest_slope(net, shape) <= lipschitz_bound(net)


def test_the_bound_of_a_composition_is_the_product():
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 3, bias=False))
    net[0].weight.data, net[2].weight.data = (
        torch.diag(torch.tensor([1.0, 2, 3])),
        torch.diag(torch.tensor([5.0, 1, 1])),
    )
    assert lipschitz_bound(net) == pytest.approx(15, rel=2e-3)
    assert lipschitz_bound(net) > 15
    assert lipschitz_bound(Block(net)) == pytest.approx(16, rel=2e-3)


def test_a_contractive_net_in_float64_has_the_constant_of_its_last_layer():
    net = build("contractive", (1, 4, 4), 3, unshuffle=2, filters=4, blocks=3, width=6, scale=5.0).double()
    last = net.head[-1]
    assert lipschitz_bound(net) == pytest.approx(
        float(torch.linalg.matrix_norm(last.effective_weight().detach(), 2)), rel=5e-3
    )


def test_unknown_layers_are_refused_by_name_and_so_is_what_inherits_from_known_ones():
    class Louder(nn.Linear):
        def forward(self, x):
            return 10 * super().forward(x)

    for layer, name in ((nn.GELU(), "GELU"), (Louder(2, 2), "Louder"), (nn.LayerNorm(3), "LayerNorm")):
        with pytest.raises(ValueError, match=name):
            lipschitz_bound(nn.Sequential(nn.Linear(2, 2), layer))
    with pytest.raises(ValueError, match="overlap"):
        lipschitz_bound(nn.MaxPool2d(3, stride=1))


class Loud(nn.Sequential):
    def forward(self, x):
        return 100 * super().forward(x)


class LoudNet(ResidualNet):
    def forward(self, x, trace=False):
        return 100 * super().forward(x)


def net_with(head):
    return ResidualNet(nn.Flatten(), [Segment([Block(ContractiveStep(GradientField(4)))])], head)


def hooked(layer, hook):
    hook(layer)
    return layer


def shouting(layer):
    layer.forward = lambda x: 10 * type(layer).forward(layer, x)
    return layer


CHANGED = {
    "a composition of a class of its own": lambda: Loud(nn.Linear(4, 3)),
    "one within": lambda: nn.Sequential(Loud(nn.Linear(4, 3)), nn.ReLU()),
    "one as head": lambda: net_with(Loud(nn.Linear(4, 3))),
    "a network of a class of its own": lambda: LoudNet(nn.Flatten(), [], nn.Linear(4, 3)),
    "older weight norm": lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 3))),
    "older spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(4, 3)),
    "pruning": lambda: prune.l1_unstructured(nn.Linear(4, 3), "weight", 0.5),
    "a parametrisation": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
    "a hook on the output": lambda: hooked(nn.Linear(4, 3), lambda m: m.register_forward_hook(lambda m, x, y: 10 * y)),
    "a hook on the input": lambda: net_with(
        hooked(nn.Linear(4, 3), lambda m: m.register_forward_pre_hook(lambda m, x: (10 * x[0],)))
    ),
    "a hook on all": lambda: hooked(
        net_with(nn.Linear(4, 3)), lambda m: m.register_forward_hook(lambda m, x, y: 2 * y)
    ),
    "a forward of its own": lambda: nn.Sequential(nn.Linear(4, 3), shouting(nn.Tanh())),
}


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")
@pytest.mark.parametrize("name", CHANGED)
def test_layers_that_may_do_something_else_than_their_class_have_no_bound(name):
    net = CHANGED[name]()
    for certificate in (lipschitz_bound, class_bounds, lambda net: certified_radius(net, torch.rand(2, 4))):
        with pytest.raises(ValueError, match=r"knows no Lipschitz constant|do what their class does"):
            certificate(net)


def test_a_hook_on_every_module_is_seen_and_backward_hooks_do_not_matter():
    net = net_with(nn.Linear(4, 3))
    handle = nn.modules.module.register_module_forward_hook(lambda module, x, y: 2 * y)
    try:
        with pytest.raises(ValueError, match="hooks"):
            lipschitz_bound(net)
    finally:
        handle.remove()
    before = lipschitz_bound(net)
    net.head.register_full_backward_hook(lambda *_: None)
    assert lipschitz_bound(net) == before


def batch_norm(**values):
    norm = nn.BatchNorm1d(4)
    for name, value in values.items():
        nn.init.constant_(getattr(norm, name), value)
    return norm


OTHER_SETTINGS = {
    "sums in place of means": lambda: nn.AvgPool2d(2, divisor_override=1),
    "indices": lambda: nn.MaxPool2d(2, return_indices=True),
    "overlap": lambda: nn.AvgPool2d(3, stride=2),
    "padding": lambda: nn.AvgPool2d(2, padding=1),
    "several pixels": lambda: nn.AdaptiveAvgPool2d(2),
    "a jump": lambda: nn.Softplus(threshold=0.0),
    "no threshold": lambda: nn.Softplus(threshold=math.nan),
    "no beta": lambda: nn.Softplus(beta=0.0),
    "a slope that is no number": lambda: nn.LeakyReLU(math.nan),
    "a change of the state": lambda: Block(nn.Sequential(nn.LeakyReLU(-2.0, inplace=True), nn.Linear(4, 4))),
    "circular padding": lambda: nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"),
    "batches as one sample": lambda: nn.Flatten(0),
    "perhaps batches": lambda: nn.Flatten(-2),
    "batch statistics": lambda: nn.BatchNorm1d(4, track_running_stats=False),
    "a negative variance": lambda: batch_norm(running_var=-1.0),
    "statistics that are no numbers": lambda: batch_norm(running_mean=math.nan),
    "a factor that is no number": lambda: batch_norm(weight=math.nan),
    "a bias that is no number": lambda: hooked(nn.Linear(2, 2), lambda m: nn.init.constant_(m.bias, math.nan)),
    "weights that are too large": lambda: nn.Sequential(
        *[hooked(nn.Linear(2, 2).double(), lambda m: m.weight.data.fill_diagonal_(1e200)) for _ in range(2)]
    ),
    "a scale that is no number": lambda: hooked(Block(nn.Linear(2, 2)), lambda m: setattr(m, "scale", math.nan)),
    "no values yet": lambda: nn.LazyLinear(2),
    "no device": lambda: nn.Linear(2, 2, device="meta"),
}


@pytest.mark.parametrize("name", OTHER_SETTINGS)
def test_settings_for_which_nothing_is_proved_are_refused(name):
    for certificate in (lipschitz_bound, class_bounds):
        with pytest.raises(ValueError, match=r"lipschitz_bound|class_bounds"):
            certificate(nn.Sequential(OTHER_SETTINGS[name]()))


@pytest.mark.parametrize("layer", [nn.AvgPool2d(4, ceil_mode=True), nn.MaxPool2d(4, ceil_mode=True), nn.Softplus(3.0)])
def test_settings_for_which_the_bound_holds_are_taken(layer):
    assert largest_slope(nn.Sequential(layer, nn.Flatten()), IMAGE) <= lipschitz_bound(layer) == 1


def test_a_net_in_training_mode_or_within_autocast_has_the_bound_of_eval_mode():
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), NormedLinear(4, 4), UnitRows(4, 3))
    nn.init.constant_(net[0].running_var, 1e-4)
    bound = lipschitz_bound(net.eval())
    assert bound > 50
    images = torch.rand(5, 4)
    radius = certified_radius(net, images)
    net.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert lipschitz_bound(net) == bound
        assert torch.equal(certified_radius(net, images), radius)
    assert net.training


def test_images_are_left_as_they_are_by_layers_that_write_into_their_input():
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)).double()
    images = torch.randn(5, 4, dtype=torch.float64)
    before = images.clone()
    certified_radius(net, images)
    assert torch.equal(images, before)


def test_inputs_of_another_shape_are_refused_in_a_line():
    with pytest.raises(ValueError, match=r"\(5,\)") as caught:
        certified_radius(nn.Linear(4, 3), torch.rand(2, 5))
    assert "\n" not in str(caught.value)


def test_the_radius_of_a_linear_net_is_the_distance_to_its_boundary():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    x = torch.randn(6, 2, 2, dtype=torch.float64)
    outputs, weight = net(x).detach(), net[1].weight.detach()
    for image, output, found in zip(x, outputs, certified_radius(net, x), strict=True):
        top = int(output.argmax())
        exact = min(float((output[top] - output[j]) / (weight[top] - weight[j]).norm()) for j in range(3) if j != top)
        assert float(found) == pytest.approx(exact, rel=1e-6)
        assert found <= exact
        nearest = min(
            (j for j in range(3) if j != top),
            key=lambda j: float((output[top] - output[j]) / (weight[top] - weight[j]).norm()),
        )
        away = weight[nearest] - weight[top]
        for factor, kept in ((0.999, True), (1.001, False)):
            changed = image + (factor * exact * away / away.norm()).reshape(2, 2)
            assert (int(net(changed[None]).argmax()) == top) is kept


def test_the_radius_is_in_units_of_the_image():
    """Normalised inputs: a change of the image is 1/deviation times as long in them."""
    net = build("contractive", (1, 2, 2), 2, layers="dense", blocks=1, width=3)
    images = torch.rand(5, 1, 2, 2)
    seen = (images - 0.4) / 0.25
    assert_close(certified_radius(net, seen, deviation=0.25), 0.25 * certified_radius(net, seen))
    inside = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), *[net])
    inside[1].weight.data, inside[1].bias.data = torch.eye(4) / 0.25, torch.full((4,), -1.6)
    assert_close(certified_radius(inside, images), certified_radius(net, seen, deviation=0.25), rtol=2e-3, atol=0.0)


def test_rows_of_the_last_layer_never_give_less_than_the_factor_of_root_two():
    net = build("contractive", (6,), 4, blocks=2, width=5).double()
    pairs = class_bounds(net)
    assert float(pairs.max()) <= 2**0.5 * lipschitz_bound(net)
    assert class_bounds(nn.Sequential(*net.encoder, nn.Tanh())) == pytest.approx(2**0.5, rel=1e-2)


def test_ties_have_no_radius_and_a_single_class_no_limit():
    assert_close(radii(torch.tensor([[1.0, 1.0, 0.0]]), 1.0), torch.zeros(1))
    assert radii(torch.ones(2, 1), 1.0).tolist() == [math.inf, math.inf]
    assert_close(radii(torch.zeros(2, 3), torch.zeros(3, 3)), torch.zeros(2))


@pytest.mark.slow
def test_no_search_finds_a_change_within_the_radius():
    net = build("contractive", (1, 4, 4), 3, unshuffle=2, filters=4, blocks=2, width=6).double()
    x = torch.rand(20, 1, 4, 4, dtype=torch.float64)
    radius, chosen = certified_radius(net, x), net(x).argmax(1)
    changed = x.clone()
    for _ in range(30):
        changed.requires_grad_()
        outputs = net(changed)
        own = outputs.gather(1, chosen[:, None])[:, 0]
        other = outputs.scatter(1, chosen[:, None], -torch.inf).amax(1)
        (slope,) = torch.autograd.grad((other - own).sum(), changed)
        away = changed.detach() + 0.2 * slope / slope.flatten(1).norm(dim=1)[:, None, None, None] - x
        size = away.flatten(1).norm(dim=1)
        changed = x + away * (0.999 * radius / size).clamp(max=1)[:, None, None, None]
        assert bool((net(changed).argmax(1) == chosen).all())


def test_the_margin_loss_is_cross_entropy_of_outputs_set_back():
    outputs, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    assert_close(margin_cross_entropy(0.0)(outputs, labels), cross_entropy(outputs, labels))
    risk = margin_cross_entropy(0.3, 2.0, 0.5)
    back = outputs.clone()
    back[torch.arange(5), labels] -= math.sqrt(2) * 0.3 * 2.0
    assert_close(risk(outputs, labels), cross_entropy(back / (0.5 * 2.0), labels))
    labels[1] = -100  # torch's cross-entropy leaves it out
    kept = torch.tensor([0, 2, 3, 4])
    assert_close(risk(outputs, labels), risk(outputs[kept], labels[kept]))
    assert_close(torch.vmap(risk)(outputs[None], labels[None])[0], risk(outputs, labels))
    for wrong in (labels.float(), labels[:3], labels[:, None]):
        with pytest.raises(ValueError, match="labels"):
            risk(outputs, wrong)
    with pytest.raises(ValueError, match="temperature"):
        margin_cross_entropy(0.3, 1.0, 0.0)


def test_the_library_offers_both():
    net = ResidualNet(nn.Flatten(), [Segment([Block(nn.Linear(4, 4))])], UnitRows(4, 2))
    assert regimes.lipschitz_bound(net) > 1
    assert regimes.certified_radius(net, torch.rand(3, 2, 2)).shape == (3,)


class Largest(TorchDispatchMode):
    """The most numbers in a tensor that was made."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.numbers = max(self.numbers, made.numel())
        return made


def test_bounds_of_pairs_of_classes_need_no_tensor_of_pairs_and_features():
    classes, features = 20, 30
    layer = nn.Linear(features, classes)
    with Largest() as seen:
        found = class_bounds(layer)
    assert seen.numbers <= classes * features
    rows = layer.weight.detach().double()
    assert_close(found, torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist"))


@pytest.mark.parametrize("terms", [10, 20_000])
def test_bounds_of_pairs_of_classes_have_room_for_the_rounding_of_all_their_terms_and_for_underflow(terms):
    layer = nn.Linear(terms, 2)
    for size in (1.0, 1e-170):  # squares of the latter are 0
        layer = layer.double()
        layer.weight.data[:] = torch.tensor([[0.0], [size]])
        found, exact = float(class_bounds(layer)[0, 1]), math.sqrt(terms) * size
        assert found >= exact * (1 + terms * 2.0**-54)  # half of γ of that many terms, as of a square root
    assert float(class_bounds(layer)[0, 1]) < 1e-150


@pytest.mark.parametrize("offset", [1e4, 1e8, 1e10, 1e12])
def test_large_numbers_that_cancel_within_the_net_widen_no_radius(offset):
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).double()
    with torch.no_grad():
        for layer, sign in zip(net, (1, -1), strict=True):
            layer.weight.copy_(torch.eye(2))
            layer.bias.fill_(sign * offset)
    x = 0.01 * torch.rand(1000, 2, dtype=torch.float64)
    found = certified_radius(net, x)
    exact = (x[:, 0] - x[:, 1]).abs() / 2**0.5
    assert bool((found <= exact).all())
    assert offset > 1e4 or bool((found >= 0.99 * exact - 1e-8).all())


def test_a_product_of_tiny_and_large_constants_is_not_lost():
    layers = [nn.Linear(2, 2, bias=False, dtype=torch.float64) for _ in range(5)]
    with torch.no_grad():
        for layer, size in zip(layers, (1e-170, 1e-170, 1e115, 1e115, 1e115), strict=True):
            layer.weight.copy_(size * torch.eye(2, dtype=torch.float64))
    assert lipschitz_bound(nn.Sequential(*layers)) >= 1e5
    assert certified_radius(nn.Sequential(*layers), torch.zeros(3, 2)).tolist() == [0.0] * 3
    with torch.no_grad():
        layers[2].weight.zero_()
    assert lipschitz_bound(nn.Sequential(*layers)) < 1e-200


def test_radii_of_float32_are_rounded_down():
    outputs = 1e-3 * torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0))
    found = radii(outputs, 0.3)
    exact = (outputs[:, 0].double() - outputs[:, 1].double()).abs() / 0.3
    assert found.dtype == torch.float32
    assert bool((found.double() <= exact).all())
    assert_close(found.double(), exact, rtol=1e-5, atol=1e-10)


def test_a_model_that_makes_more_rows_than_inputs_has_no_radii():
    net = nn.Sequential(nn.PixelUnshuffle(2), nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(ValueError, match="a row of outputs for each input; got 20 for 5"):
        certified_radius(net, torch.randn(5, 4, 4))
