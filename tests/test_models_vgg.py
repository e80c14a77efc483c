"""VGG-11: its published size, its poolings on small images, and that it trains without residual blocks."""

import json

import hand_made_checkpoint as made
import pytest
import torch
from command import command
from short_training import short
from torch import nn
from torch.testing import assert_close

from regimes.data.batches import Batches
from regimes.data.classification import Labelled
from regimes.lab import training_figure
from regimes.lab.config import dump
from regimes.lab.yaml_text import to_yaml
from regimes.models.build import build
from regimes.models.residual import parameter_count
from regimes.models.vgg import vgg11
from regimes.training import results
from regimes.training.metrics import evaluate


def layers(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


def test_parameters_are_the_published_ones_by_hand():
    first = (3 * 9 * 64 + 64) + (64 * 9 * 128 + 128)
    third = (128 * 9 * 256 + 256) + (256 * 9 * 256 + 256)
    last = (256 * 9 * 512 + 512) + 3 * (512 * 9 * 512 + 512)
    assert first + third + last == 9_220_480  # the convolutions of configuration A
    with torch.device("meta"):
        assert parameter_count(vgg11((3, 32, 32), 10)) == 9_220_480 + 512 * 10 + 10 == 9_225_610


def test_width_scales_every_channel():
    model = vgg11((3, 32, 32), 10, width=8)
    assert [layer.out_channels for layer in layers(model, nn.Conv2d)] == [8, 16, 32, 32, 64, 64, 64, 64]
    assert model.head[1].in_features == 64


@pytest.mark.parametrize(
    ("side", "poolings", "features"), [(32, 5, 16), (28, 4, 16), (8, 3, 16), (1, 0, 16), (64, 5, 4 * 16), (65, 5, 64)]
)
def test_poolings_go_on_until_one_pixel_is_left(side, poolings, features):
    model = vgg11((1, side, side), 3, width=2)
    assert len(layers(model, nn.MaxPool2d)) == poolings
    assert model.head[1].in_features == features
    assert model(torch.randn(2, 1, side, side)).shape == (2, 3)


def test_it_is_convolution_relu_and_pooling_in_this_order():
    kinds = [type(layer).__name__[0] for layer in vgg11((3, 32, 32), 10, width=1).encoder]
    assert "".join(kinds) == "CRM" + "CRM" + "CRCRM" + "CRCRM" + "CRCRM"


def test_flat_data_are_refused():
    with pytest.raises(ValueError, match=r"vgg11 needs images .*; got \(2,\). Try arch=dense"):
        build("vgg11", (2,), 3)


def test_without_blocks_the_trace_is_empty_and_nothing_moves():
    model = build("vgg11", (1, 8, 8), 3, width=2)
    x, labels = torch.randn(5, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    trace = model(x, trace=True)
    assert (trace.paths, trace.steps) == ((), ())
    assert_close(trace.output, model(x))
    found = evaluate(model, Batches(Labelled(x, labels), 2, shuffle=False))
    assert (found.transport, found.blocks.tolist(), found.samples) == (None, [], 5)
    assert_close(found.risk, nn.functional.cross_entropy(trace.output, labels).item(), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_it_trains_like_any_other_and_reports_no_transport(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(results, "_figure", lambda folder, rows: drawn.append(training_figure.draw(rows)) or {})
    monkeypatch.chdir(tmp_path)
    settings = dump(short(arch="vgg11", arch_options={"width": 2}, lap=False, epochs=2))
    (tmp_path / "short.yaml").write_text(to_yaml(settings))
    ended = command("train", "--config", "short.yaml", "--out", "run")
    assert (ended.code, ended.err) == (0, "")
    assert "transport" not in ended.out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["last"]["transport"] is None
    assert "ransport" not in (tmp_path / "run" / "table.md").read_text()
    assert len(drawn[0].axes) == 2
    several = command("train", "--config", "short.yaml", "--out", "two", "--seeds", "2", "--epochs", "1")
    assert (several.code, several.err) == (0, "")


def test_least_action_and_ot_gap_say_that_they_need_residual_blocks(tmp_path):
    refused = command("train", "--dataset", "digits", "--arch", "vgg11", "--lap", "--out", str(tmp_path / "run"))
    assert refused.code == 2
    assert "vgg11 has none. Leave out --lap" in " ".join(refused.err.split())
    assert not (tmp_path / "run").exists()
    file = made.write(tmp_path / "vgg.pt", "digits", "vgg11", width=2)
    refused = command("ot-gap", str(file), "--out", str(tmp_path / "gap"))
    assert refused.code == 2
    assert "has no residual blocks" in " ".join(refused.err.split())
