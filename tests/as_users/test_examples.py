"""The example files run as they are printed, and answer."""

import ast
import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_fifteen_lines_of_public_names_say_whether_a_net_is_lazy(capsys):
    file = EXAMPLES / "is_my_net_lazy.py"
    source = file.read_text(encoding="utf-8")
    body = ast.parse(source).body[1:]  # without the docstring
    assert sum(1 for line in source.splitlines()[body[0].lineno - 1 :] if line.strip()) <= 15
    names = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    assert not any(name.startswith("_") for name in names)
    runpy.run_path(str(file))
    narrow, wide = capsys.readouterr().out.splitlines()
    assert narrow.startswith("50 not lazy: tangent distance ")
    assert wide.startswith("500 lazy: ")


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_examples_import_public_names_only(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("regimes"):
            assert not any(part.startswith("_") for part in node.module.split("."))


@pytest.mark.slow
def test_a_mixture_is_fitted_with_a_proof(capsys):
    runpy.run_path(str(EXAMPLES / "fit_a_mixture.py"))
    lines = capsys.readouterr().out.splitlines()
    assert all(line.endswith("(proved)") for line in lines)
    risks = [float(re.search("risk ([0-9.e-]+)", line)[1]) for line in lines]
    gaps = [float(re.search("at most ([0-9.e-]+)", line)[1]) for line in lines]
    assert risks == sorted(risks, reverse=True)
    assert gaps[-1] < 0.01 * risks[-1]
