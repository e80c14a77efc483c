"""Where ruamel.yaml is not installed PyYAML reads and writes configurations by the same rules."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from launch import environment

from regimes.lab import yaml_spare
from regimes.lab.yaml_text import dumped, loaded

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs").rglob("*.yaml"))
TEXTS = [
    "1e4", "1e-3", "-.5", "010", "1_000", "yes", "on", "true", "False", "null", "~", "", "12:30", "0x10",
    "0o17", "-7", "+7",
    "1.5e3", "1e", "a_b", "[1, 2.0, a]",
    "{epochs: 3, milestones: [1, 2], arch_options: {filters: 2}}", ".inf", "-.inf", "2026-11-28",
    "'1'", "a: 1\nb: [x]",
    "base: &b {a: 1}\nown: {<<: *b, c: 2}", "é",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_the_same_value(text):
    assert repr(yaml_spare.loaded(text)) == repr(loaded(text))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_configuration_is_the_same(file):
    text = file.read_text(encoding="utf-8")
    assert yaml_spare.loaded(text) == loaded(text)


def test_what_one_writes_the_other_reads():
    values = {
        "a": 1e-5,
        "b": [1.0, 2, None, True],
        "c": {"d": "1e4", "e": "yes", "f": float("inf")},
        "g": "é",
        "h": 1e22,
    }
    for write in (dumped, yaml_spare.dumped):
        for read in (loaded, yaml_spare.loaded):
            assert repr(read(write(values))) == repr(values)


def test_without_ruamel_a_command_reads_settings_and_names_mistakes():
    code = (
        "import sys; sys.modules['ruamel'] = sys.modules['ruamel.yaml'] = None\n"
        "from regimes.errors import UserError\n"
        "from regimes.lab.yaml_text import parse_yaml\n"
        "print(parse_yaml('{a: 1e4, b: yes}', 'here'))\n"
        "for text in ('a: 1\\na: 2', 'a: [1'):\n"
        "    try:\n"
        "        parse_yaml(text, 'here')\n"
        "    except UserError as error:\n"
        "        print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    value, twice, torn = ended.stdout.splitlines()
    assert json.loads(value.replace("'", '"')) == {"a": 10000.0, "b": "yes"}
    assert twice == "here is not valid YAML at line 2, column 1: found the key 'a' twice"
    assert torn.startswith("here is not valid YAML at line")
