"""Models of several inputs, with outputs in objects, called in ways of their own: the kernel of the wrapped model."""

from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes import linearize, ntk, tangent_operator
from regimes.conventions import generator
from regimes.tangent.estimates import drift, norm
from regimes.tangent.kernel import jacobian, ntk_vector_product
from regimes.tangent.probing import probe

pytestmark = pytest.mark.slow


class Output(NamedTuple):
    logits: torch.Tensor
    hidden: torch.Tensor


class Reader(nn.Module):
    """As from Hugging Face: numbers of tokens and a mask come in by name, an object with logits comes out."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(9, 4)
        self.places = nn.Parameter(torch.randn(5, 4))
        layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(4, 2)

    def forward(self, input_ids, attention_mask):
        hidden = self.tokens(input_ids) + self.places
        hidden = self.layers(hidden, src_key_padding_mask=attention_mask == 0)
        weights = attention_mask[..., None].to(hidden)
        return Output(self.head((hidden * weights).sum(1) / weights.sum(1)), hidden)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, a, b):
        return torch.tanh(self.left(a)) * self.right(b)


class Joined(nn.Module):
    """The same on one tensor."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x[:, :3], x[:, 3:])


def text(n, dtype=torch.float64):
    mask = torch.ones(n, 5, dtype=torch.int64)
    mask[1::2, 3:] = 0
    return Reader().to(dtype).eval(), {"input_ids": torch.randint(9, (n, 5)), "attention_mask": mask}


def one_by_one(model, x):
    """(n, k, p) by a backward pass for each output of each sample."""
    params = list(model.parameters())
    n = len(x["input_ids"])
    rows = []
    for i in range(n):
        logits = model(**{name: value[i : i + 1] for name, value in x.items()}).logits[0]
        for output in logits:
            rows.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(output, params, retain_graph=True)]))
    return torch.stack(rows).view(n, 2, -1)


def test_a_mapping_goes_in_by_keyword_and_logits_come_out():
    model, x = text(4)
    rows = one_by_one(model, x)
    kernel = torch.einsum("iap,jbp->ijab", rows, rows)
    assert_close(ntk(model, x), kernel)
    assert_close(ntk(model, x, outputs="trace"), kernel.diagonal(0, 2, 3).sum(-1))
    assert_close(torch.cat([each.flatten(2) for each in jacobian(model, x).values()], 2), rows)
    some = {name: value[1:3] for name, value in x.items()}
    assert_close(ntk(model, x, some), kernel[:, 1:3])
    assert_close(ntk(model, x, block=1), kernel)
    u = torch.randn(4, 2, dtype=torch.float64)
    assert_close(ntk_vector_product(model, x, u), torch.einsum("ijab,jb->ia", kernel, u))


def test_products_name_the_parameters_as_the_model_does():
    model, x = text(3)
    operator = tangent_operator(model, x)
    pulled = operator.vjp(torch.ones(3, 2, dtype=torch.float64))
    assert list(pulled) == [name for name, _ in model.named_parameters()]
    model.zero_grad()
    model(**x).logits.sum().backward()
    for name, parameter in model.named_parameters():
        assert_close(pulled[name], parameter.grad)
    assert_close(operator.jvp(pulled), operator.matvec(torch.ones(3, 2, dtype=torch.float64)))


def test_other_samples_may_come_one_after_the_other():
    model, x = text(4)
    operator, kernel = tangent_operator(model, x), ntk(model, x)
    for part in (slice(0, 2), slice(2, 4), slice(0, 4)):
        other = {name: value[part] for name, value in x.items()}
        assert_close(operator.gram(other), kernel[:, part])
        assert_close(operator.gram(), kernel)


def test_a_tuple_goes_in_by_place_and_forward_decides_otherwise():
    model = TwoInputs().double()
    a, b = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    expected = ntk(Joined(model), torch.cat([a, b], 1))
    assert_close(ntk(model, (a, b)), expected)
    assert_close(ntk(model, {"b": b, "a": a}), expected)
    assert_close(ntk(model, (b, a), forward=lambda net, batch: net(batch[1], batch[0])), expected)
    assert_close(ntk(model, torch.cat([a, b], 1), forward=lambda net, x: {"out": net(x[:, :3], x[:, 3:])}), expected)


def test_estimates_take_mappings_too():
    model, x = text(4)
    operator = tangent_operator(model, x)
    probed = probe([operator, tangent_operator(model, x)], generator=generator(0), probes=8)
    assert_close(norm(probed[0]).value, float(ntk(model, x).norm()))
    assert drift(*probed).value == 0
    moved = {**x, "input_ids": (x["input_ids"] + 1) % 9}
    with pytest.raises(ValueError, match="one set of samples"):
        probe([operator, tangent_operator(model, moved)], generator=generator(0))


def test_what_mixes_samples_is_refused():
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, a, b):
            return self.layer(a - a.mean(0)) + b

    with pytest.raises(ValueError, match="each sample by itself"):
        ntk(Mixing(), {"a": torch.randn(4, 3), "b": torch.randn(4, 2)})
    with pytest.raises(ValueError, match=r"eval\(\)"):
        ntk(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1)), (torch.randn(4, 3),))


def test_bad_inputs_are_named():
    model, x = TwoInputs(), {"a": torch.randn(4, 3), "b": torch.randn(4, 2)}
    with pytest.raises(ValueError, match=r"a row for each sample in every tensor.*'b': 3"):
        ntk(model, {**x, "b": x["b"][:3]})
    with pytest.raises(ValueError, match=r"finite inputs\['a'\]"):
        ntk(model, {**x, "a": x["a"] * float("nan")})
    with pytest.raises(ValueError, match=r"inputs\['b'\] as a tensor"):
        ntk(model, {**x, "b": 3})
    with pytest.raises(ValueError, match="dtype of the model"):
        ntk(model, {**x, "b": x["b"].double()})
    with pytest.raises(ValueError, match="at least one tensor"):
        ntk(model, {})
    operator = tangent_operator(model, x)
    with pytest.raises(ValueError, match="x2 as the inputs were given"):
        operator.gram(x["a"])
    with pytest.raises(ValueError, match="x2 with the tensors of the inputs"):
        operator.gram({"a": x["a"]})


@pytest.mark.parametrize("kind", [torch.nn.Embedding, torch.nn.EmbeddingBag])
@pytest.mark.parametrize("door", [ntk, lambda model, x: linearize(model)(x)], ids=["ntk", "linearize"])
def test_a_gradient_divided_by_how_often_an_index_comes_is_refused_as_no_derivative(door, kind):
    class Words(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.out = kind(5, 3, scale_grad_by_freq=True), torch.nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found = self.words(x)
            return self.out(found.mean(1) if found.ndim == 3 else found)

    with pytest.raises(ValueError, match=r"layer 'words' \(Embedding.*how often an index comes in the batch"):
        door(Words(), torch.tensor([[0, 1, 1], [2, 3, 1], [4, 4, 4]]))


def test_a_default_device_of_the_caller_changes_nothing():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(4, 3)
    expected, tangent = ntk(model, x), linearize(model)
    with torch.device("meta"):  # as after torch.set_default_device("cuda"), for a model that is elsewhere
        kernel, values = ntk(model, x), tangent(x)
    assert_close(kernel, expected)
    assert_close(values, model(x))
