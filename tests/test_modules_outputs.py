"""Wrappers of models: what the model returns, what it is wrapped in, chance, and other paths without gradients."""

import random

import numpy as np
import pytest
import torch
from kinds_of_outputs import REFUSED, TAKEN
from torch import distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

import regimes
from regimes.modules import chance_restored, drawn, generators, sole_tensor, tensor_of, unwrapped

pytestmark = pytest.mark.slow


class Returning(nn.Module):
    def __init__(self, kind=None):
        super().__init__()
        self.inner, self.kind = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), kind

    def forward(self, x):
        return self.kind(self.inner(x)) if self.kind else self.inner(x)


def kernel(model, x):
    return regimes.ntk(model, x)


WRAPPERS = {
    "Centred": lambda model, x: regimes.Centred(model, alpha=2.0)(x),
    "Doubled": lambda model, x: regimes.Doubled(model)(x),
    "linearize": lambda model, x: regimes.linearize(model)(x),
    "ntk": kernel,
}


@pytest.fixture
def x():
    return torch.randn(5, 3)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("kind", TAKEN)
def test_outputs_in_wrappings_are_taken(wrapper, kind, x):
    model = Returning(TAKEN[kind])
    assert_close(WRAPPERS[wrapper](model, x), WRAPPERS[wrapper](model.inner, x))


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("kind", REFUSED)
def test_outputs_that_leave_a_choice_are_refused_in_one_line(wrapper, kind, x):
    with pytest.raises(
        ValueError, match=f"^{wrapper} needs a model that returns one tensor .* this one gave "
    ) as caught:
        WRAPPERS[wrapper](Returning(REFUSED[kind]), x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["dataclass", "plain dictionary", "tuple of one"])
def test_training_and_laziness_go_through_wrappings(kind, x):
    model, plain = Returning(TAKEN[kind]), Returning()
    plain.load_state_dict(model.state_dict())
    found = []
    for net in (model, plain):
        tangent = regimes.linearize(net)
        for trained in (net, tangent):
            optimiser = torch.optim.SGD(trained.parameters(), lr=0.1)
            for _ in range(3):
                optimiser.zero_grad()
                tensor_of(trained(x), "test").square().mean().backward()
                optimiser.step()
        found.append(regimes.laziness(net, tangent, x))
    assert_close(found[0][:3], found[1][:3])


def test_the_only_tensor_is_found_and_a_number_is_none():
    z = torch.ones(2)
    assert sole_tensor(({"a": [z]}, None, torch.tensor(1.0))) is z
    assert sole_tensor((z, z)) is None
    assert sole_tensor(torch.tensor(1.0)) is not None
    with pytest.raises(ValueError, match=r"gave dict with a, b\. Wrap it in a module"):
        tensor_of({"a": z, "b": z}, "this")


@pytest.fixture
def group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


PARALLEL = {
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": nn.parallel.DistributedDataParallel,
    "one in the other": lambda model: nn.parallel.DistributedDataParallel(nn.DataParallel(model)),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("parallel", PARALLEL)
def test_parallel_wrappers_are_taken_off(group, wrapper, parallel, x):
    model = Returning()
    assert unwrapped(PARALLEL[parallel](model)) is model
    assert_close(WRAPPERS[wrapper](PARALLEL[parallel](model), x), WRAPPERS[wrapper](model, x))


@pytest.mark.parametrize("parallel", PARALLEL)
def test_a_tangent_model_of_a_parallel_model_has_its_own_names(group, parallel, x):
    model = Returning()
    tangent = regimes.linearize(PARALLEL[parallel](model))
    assert tangent.names == list(dict(model.named_parameters()))


@pytest.mark.parametrize("wrapper", ["Centred", "Doubled"])
def test_what_would_be_trained_apart_is_refused(group, wrapper, x, monkeypatch):
    model = nn.parallel.DistributedDataParallel(Returning())
    monkeypatch.setattr(dist, "get_world_size", lambda *_: 2)
    with pytest.raises(
        ValueError, match=f"{wrapper} needs the model itself, .*wrap what {wrapper} gives in Distributed"
    ):
        WRAPPERS[wrapper](model, x)


class Chance(nn.Module):
    """Random by one generator or the other, in training mode or always; seldom, where p is small."""

    def __init__(self, draw, always=False, p=0.3):
        super().__init__()
        self.inner, self.draw, self.always, self.p = nn.Linear(3, 2), draw, always, p

    def forward(self, x):
        y = self.inner(x)
        if self.training or self.always:
            y = y * (self.draw(len(y)) >= self.p).to(y)
        return y


def own_generator():
    generator = torch.Generator().manual_seed(0)
    return lambda n: torch.rand(n, 1, generator=generator)


DRAWS = {
    "torch, a sample": lambda: lambda n: torch.rand(n, 1),
    "torch, the batch": lambda: lambda n: torch.rand(()),
    "python": lambda: lambda n: torch.tensor(random.random()),
    "numpy": lambda: lambda n: torch.as_tensor(np.random.rand(n, 1)),  # noqa: NPY002
    "a generator of its own": own_generator,
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("always", [True, False])
def test_chance_is_found_and_in_eval_mode_missed_by_none(wrapper, draw, always, x):
    """Under torch.func random draws raise by themselves; here they are found before."""
    model = Chance(DRAWS[draw](), always)
    with pytest.raises(ValueError, match=f"{wrapper} needs a model that gives the same output each time.*model.eval"):
        WRAPPERS[wrapper](model, x)
    if not always:
        WRAPPERS[wrapper](model.eval(), x)


@pytest.mark.parametrize("draw", ["torch, a sample", "torch, the batch", "python", "numpy"])
def test_chance_that_is_seldom_seen_is_found(draw, x):
    missed = 0
    for seed in range(10):
        torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)  # noqa: NPY002
        model = nn.Sequential(*(Chance(DRAWS[draw](), p=0.05) for _ in range(1)))
        try:
            regimes.Centred(model, 1.0)(x)
            missed += 1
        except ValueError:
            pass
    assert missed <= 1  # each of 62 calls sees it with probability 0.05 at least: 0.04 a model


def test_a_mode_that_is_changed_later_is_looked_at(x):
    def model():
        return Chance(lambda n: torch.rand(n, 1)).eval()

    for wrapped in (regimes.Centred(model(), 1.0), regimes.Doubled(model())):
        wrapped(x)
        with pytest.raises(ValueError, match="gives the same output each time"):
            wrapped.train()(x)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_looking_leaves_the_generator_where_it_was(wrapper, x):
    model = Chance(DRAWS["torch, a sample"](), p=0.3)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="the same output"):
        WRAPPERS[wrapper](model, x)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_generators_are_put_back():
    with chance_restored() as before:
        torch.rand(3), random.random(), np.random.standard_normal(3)  # noqa: NPY002
        assert drawn(before)
    assert not drawn(before)
    for draw in (lambda: torch.rand(1), random.random, np.random.rand):
        since = generators()
        draw()
        assert drawn(since)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_call_that_changes_buffers_is_refused_and_they_are_put_back(wrapper, x):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 2)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            if self.training:
                self.calls += 1
            return self.inner(x) * (1 + self.calls)

    model = Counting()
    with pytest.raises(ValueError, match=f"{wrapper} needs a model that"):
        WRAPPERS[wrapper](model, x)
    assert model.calls == 0
    WRAPPERS[wrapper](model.eval(), x)


def test_a_branch_on_gradients_is_told(x):
    class Branch(nn.Linear):
        def forward(self, x):
            return super().forward(x) * (2 if torch.is_grad_enabled() else 1)

    with pytest.raises(ValueError, match="one function; here its output with gradients on is another one"):
        regimes.Centred(Branch(3, 2), 1.0)(x)


class Masked(nn.Module):
    """A transformer encoder that masks the tokens of value 0, as text models do; returns all places."""

    def __init__(self, pooled):
        super().__init__()
        self.embed, self.pooled = nn.Embedding(7, 4), pooled
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2)

    def forward(self, tokens):
        z = self.encoder(self.embed(tokens), src_key_padding_mask=tokens == 0)
        return z.mean(1) if self.pooled else z


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
def test_masked_encoders_are_one_function_with_and_without_gradients(pooled, gradients):
    """Without gradients torch's fused path has zeros in padded places: the centred model was not zero at its start."""
    tokens = torch.tensor([[1, 2, 3, 0, 0], [4, 5, 0, 0, 0], [6, 1, 2, 4, 0]])
    model = Masked(pooled).double().eval()
    truth = model(tokens).detach()
    with torch.set_grad_enabled(gradients):
        assert_close(regimes.Centred(model, 10.0)(tokens), torch.zeros_like(truth), rtol=0, atol=1e-12)
        assert_close(regimes.Doubled(model)(tokens), torch.zeros_like(truth), rtol=0, atol=1e-12)
        assert_close(regimes.linearize(model)(tokens), truth)
    assert regimes.ntk(model, tokens, outputs="trace").shape == (3, 3)
    assert torch.backends.mha.get_fastpath_enabled()


def test_functional_dropout_is_chance(x):
    class Noisy(nn.Linear):
        def forward(self, x):
            return F.dropout(super().forward(x), 0.1, self.training)

    for make in (lambda m: regimes.Centred(m, 1.0), regimes.Doubled, regimes.linearize):
        with pytest.raises(ValueError, match="gives the same output each time"):
            make(Noisy(3, 50))(x)
        make(Noisy(3, 50).eval())(x)


@pytest.mark.parametrize("wrapping", ["dataclass", "tuple of one", "DataParallel", "DistributedDataParallel"])
def test_fit_takes_wrappings_and_refuses_a_choice(group, wrapping, x, tmp_path):
    labels, settings = torch.arange(5) % 2, {"epochs": 1, "batch": 5}
    plain = Returning()
    start = plain.state_dict()
    model = Returning(TAKEN.get(wrapping))
    model.load_state_dict(start)
    given = PARALLEL[wrapping](model) if wrapping in PARALLEL else model
    regimes.fit(plain, (x, labels), out=tmp_path / "plain", **settings)
    regimes.fit(given, (x, labels), out=tmp_path / "wrapped", **settings)
    assert torch.equal(model.inner[0].weight, plain.inner[0].weight)
    two = Returning(REFUSED["two tensors"])
    with pytest.raises(ValueError, match="fit needs a model that returns one tensor; got tuple of 2: pass output="):
        regimes.fit(two, (x, labels), out=tmp_path / "two", **settings)
    regimes.fit(two, (x, labels), out=tmp_path / "two", output=lambda result: result[0], **settings)
