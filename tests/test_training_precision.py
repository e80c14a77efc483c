"""How products are made, and which settings a card gets: asked for in the settings, put back after the run."""

import pytest
import torch
from pydantic import ValidationError
from short_training import short
from stand_in_card import stand_in_card

from regimes.lab.config import load
from regimes.machine import card_settings, prepared
from regimes.training import run as runs
from regimes.training.config import TrainConfig
from regimes.training.fitting import FitConfig
from regimes.training.run import train_one


def flags():
    cudnn = torch.backends.cudnn
    return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark


@pytest.mark.parametrize("kind", [TrainConfig, lambda **given: FitConfig(model="net", risk="risk", **given)])
@pytest.mark.parametrize(
    ("given", "precision"),
    [({}, "tf32"), ({"bf16": True}, "bf16"), ({"bf16": False}, "tf32"), ({"bf16": False, "precision": "fp32"}, "fp32")],
)
def test_the_old_name_of_bfloat16_is_understood(kind, given, precision):
    config = kind(**given)
    assert config.precision == precision
    assert config.bf16 == (precision == "bf16")
    assert "bf16" not in config.model_dump()


@pytest.mark.parametrize(
    "given",
    [
        {"bf16": True, "precision": "fp32"},
        {"bf16": False, "precision": "bf16"},
        {"bf16": True, "precision": "tf32"},
        {"bf16": "often"},
        {"precision": "fp16"},
    ],
)
def test_old_and_new_names_that_contradict_each_other_are_refused(given):
    with pytest.raises(ValidationError, match="bf16"):
        TrainConfig(**given)


def test_the_old_name_is_understood_on_the_command_line():
    assert load(TrainConfig, overrides=["bf16=true"]).precision == "bf16"
    for later, precision in {"precision=tf32": "tf32", "precision=fp32": "fp32", "bf16=false": "tf32"}.items():
        assert load(TrainConfig, overrides=["bf16=true", later]).precision == precision
        assert load(TrainConfig, overrides=[later, "bf16=true"]).precision == "bf16"


@pytest.mark.parametrize(
    ("precision", "benchmark", "expected"),
    [
        ("fp32", False, (False, False, False)),
        ("tf32", True, (True, True, True)),
        ("bf16", None, (True, True, None)),
        ("fp32", None, (False, False, None)),
    ],
)
def test_a_card_gets_them_and_gives_them_back(precision, benchmark, expected):
    before = flags()
    expected = tuple(old if new is None else new for old, new in zip(before, expected, strict=True))
    with card_settings("cuda", precision, benchmark):
        assert flags() == expected
    assert flags() == before


def test_a_card_gives_them_back_after_an_error(monkeypatch):
    before, run = flags(), card_settings("cuda", "fp32", True)
    run.__enter__()
    assert flags() != before
    with pytest.raises(KeyError):
        run.gen.throw(KeyError())
    assert flags() == before


def test_a_cpu_is_left_alone():
    before = flags()
    with card_settings("cpu", "fp32", True):
        assert flags() == before


def test_both_settings_reach_the_card(monkeypatch, tmp_path):
    class Seen(Exception):
        pass

    def look(config, ranks):
        raise Seen(flags())

    monkeypatch.setattr(runs, "assemble", look)
    with stand_in_card(monkeypatch):
        for given, expected in (
            ({"precision": "fp32", "cudnn_benchmark": True}, (False, False, True)),
            ({"precision": "bf16"}, (True, True, False)),
        ):
            with pytest.raises(Seen) as seen:
                train_one(short(device="cuda", **given), tmp_path / "run")
            assert seen.value.args[0] == expected
        with prepared(0, "cuda"):
            assert flags()[:2] == (True, True)
