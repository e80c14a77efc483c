"""The order of the packages, held by reading the imports; sizes of files; what a light import may load."""

import ast
import builtins
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

from regimes.experiments import homes, names

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "regimes"
FILES = sorted(file for file in PACKAGE.rglob("*.py"))
# From the bottom up; packages on one line do not know each other, except those on the lowest.
LAYERS = [
    "activations checks conventions eigenvalues errors launch long_sums machine modules paths processes reduction "
    "streams threads",
    "control",
    "lab data models tangent meanfield transport",
    "training",
    "experiments jobs",
    "audit",
    "cli",
]
LAYER = {package: height for height, line in enumerate(LAYERS) for package in line.split()}
HEAVY = ("torch", "jax", "ot", "matplotlib", "pandas", "scipy", "sklearn")
LIMIT = 300
# packages of experiments that other experiments may import
SHARED = {
    "known_least",
    "missing",
    "complexity",
    "gradient_nets",
    "layered",
    "halves",
    "initialisations",
    "low_data",
    "plane_course",
    "plane_figure",
    "plane_maps",
    "plane_nets",
    "planes",
    "paths",
    "powers",
    "rotations",
    "scaled_images",
    "scaled_nets",
    "scaled_numbers",
    "scaled_settings",
    "small_nets",
    "starts",
}


def unit(module: str) -> str:
    """The package or top-level module of regimes that a dotted name belongs to."""
    return module.split(".")[1] if "." in module else ""


def imports(source: str, module: str) -> Iterator[str]:
    """Every module named in import statements, at any depth of the code; relative ones made absolute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield origin
            if origin == "regimes":
                yield from (f"regimes.{alias.name}" for alias in node.names)


def faults(source: str, module: str) -> list[str]:
    """The imports of a module that do not point down."""
    here = unit(module)
    found = []
    for other in imports(source, module):
        there = unit(other) if other.startswith("regimes.") else ""
        if not there or there == here or there.startswith("__"):
            continue
        if there not in LAYER:
            found.append(f"{module} imports {other}, which has no layer")
        elif LAYER[there] > LAYER[here] or (LAYER[there] == LAYER[here] > 0):
            found.append(f"{module} imports {other}")
    return found


def name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_the_reader_of_imports_finds_every_kind():
    source = (
        "import a.b\nfrom c import d\nfrom regimes import lab\ndef f():\n    from . import x\n    from ..e import y\n"
    )
    assert set(imports(source, "regimes.p.q")) == {"a.b", "c", "regimes", "regimes.lab", "regimes.p", "regimes.e"}


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("regimes.tangent.kernel", "from regimes.conventions import Params", False),
        ("regimes.tangent.kernel", "from regimes.tangent.functional import functional", False),
        ("regimes.experiments.lazy.x", "import regimes.lab.report", False),
        ("regimes.tangent.kernel", "from regimes.meanfield import flow", True),
        ("regimes.lab.sweep", "def f():\n    from regimes.experiments import load", True),
        ("regimes.control.adaptive", "from regimes import lab", True),
        ("regimes.data.images", "from ..models import mlp", True),
        ("regimes.data.images", "import regimes.helpers", True),
    ],
)
def test_an_import_upwards_or_sideways_is_found(module, source, fault):
    assert bool(faults(source, module)) == fault


def test_imports_point_down():
    found = [
        fault
        for file in FILES
        if file != PACKAGE / "__init__.py"  # loads names on first use
        for fault in faults(file.read_text(encoding="utf-8"), name(file))
    ]
    assert found == []


def circle(sources: dict[str, str]) -> list[str]:
    """Modules that import each other in a circle, at whatever depth of their code; none if there is no circle."""
    graph = {}
    for module, source in sources.items():
        found = graph[module] = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= inner if inner <= sources.keys() else {*(inner & sources.keys()), str(node.module)}
    known = {module: (found & sources.keys()) - {module} for module, found in graph.items()}
    try:
        TopologicalSorter(known).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_a_circle_of_imports_is_found():
    one, other = "from p.b import f", "def g():\n    from p import a"
    assert set(circle({"p": "", "p.a": one, "p.b": other})) == {"p.a", "p.b"}
    assert circle({"p": "from p.a import f", "p.a": one, "p.b": "import torch"}) == []


def test_no_modules_import_each_other_in_a_circle():
    files = [file for file in FILES if file != PACKAGE / "__init__.py"]  # loads names on first use
    assert circle({name(file): file.read_text(encoding="utf-8") for file in files}) == []


def test_experiments_do_not_import_each_other():
    """What several share is a package that states nothing and knows none of them."""
    folder = PACKAGE / "experiments"
    assert not SHARED & set(names())
    for file in folder.glob("*/**/*.py"):
        own = file.relative_to(folder).parts[1].removesuffix(".py")
        for other in imports(file.read_text(encoding="utf-8"), name(file)):
            if other.startswith("regimes.experiments."):
                assert other.split(".")[3] in {own, *SHARED}, f"{file.name} imports {other}"


def test_every_package_has_a_layer():
    found = {file.stem for file in PACKAGE.glob("[a-z]*.py")} | {
        file.parent.name for file in PACKAGE.glob("*/__init__.py")
    }
    assert found <= LAYER.keys()


def test_no_file_is_too_long_to_be_read_at_once():
    long = {
        str(file.relative_to(ROOT)): count for file in FILES if (count := len(file.read_text().splitlines())) > LIMIT
    }
    assert long == {}


def test_a_statement_is_read_on_two_pages():
    """Claim, predictions, judge; what measures, groups and draws lies beside it."""
    files = [Path(find_spec(f"regimes.experiments.{home}.{own}").origin) for own, home in homes().items()]
    assert [file for file in files if len(file.read_text().splitlines()) > 125] == []


def test_no_module_is_named_for_odds_and_ends():
    assert not {file.stem for file in FILES} & {"utils", "util", "helpers", "misc", "common"}


def test_only_the_adapter_imports_jax():
    found = {
        str(file.relative_to(PACKAGE))
        for file in FILES
        for module in imports(file.read_text(encoding="utf-8"), name(file))
        if module.split(".")[0] in ("jax", "neural_tangents")
    }
    assert found <= {"tangent/neural_tangents.py"}


def top_names(node: ast.AST) -> set[str]:
    """What a file defines or imports at its top level; functions and comprehensions have scopes of their own."""
    found = set()
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.FunctionDef | ast.ClassDef):
            found.add(part.name)
        elif isinstance(part, ast.alias):
            found.add((part.asname or part.name).split(".")[0])
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found.add(part.id)
        elif not isinstance(part, ast.comprehension | ast.Lambda):
            found |= top_names(part)
    return found


def shadowed(source: str) -> list[tuple[int, str]]:
    """Line and name of each variable of a comprehension that is also a name at the top of the file, or built in."""
    tree = ast.parse(source)
    taken = top_names(tree) | set(dir(builtins))
    return [
        (part.lineno, part.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.comprehension)
        for part in ast.walk(node.target)
        if isinstance(part, ast.Name) and part.id in taken
    ]


def test_processes_that_tests_start_keep_the_import_path_that_was_given():
    """Where packages lie in a folder of PYTHONPATH alone, a child that has another one finds none of them."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    found = {file.name for file in files if re.search(r"""['"]PYTHONPATH['"]\s*:""", file.read_text(encoding="utf-8"))}
    assert found == {"launch.py"}  # whose `environment` adds to it


@pytest.mark.parametrize(
    ("source", "names_found"),
    [
        ("from a import gain\ndef f(x):\n    y = [gain for gain in x]\n    return gain(y)", ["gain"]),
        ("import a.b\ndef f(x):\n    return {k: a for k, (a, c) in x}", ["a"]),
        ("def g(): ...\ndef f(x):\n    return {g for g in x}, g()", ["g"]),
        ("def f(x):\n    return tuple(1 for sum in x)", ["sum"]),
        ("if True:\n    from a import gain\nall_of = [gain for gain in x]", ["gain"]),
        ("from a import gain\ndef f(x):\n    return [gain(one) for one in x]", []),
        ("def g():\n    inner = 1\ndef f(x):\n    return [inner for inner in x]", []),
    ],
)
def test_a_variable_of_a_comprehension_that_has_a_taken_name_is_found(source, names_found):
    assert [found for _, found in shadowed(source)] == names_found


@pytest.mark.slow
def test_no_variable_of_a_comprehension_has_the_name_of_a_function():
    """Python 3.12.0 to 3.12.3 can raise UnboundLocalError in the function around such a comprehension."""
    folders = ("regimes", "tests", "benchmarks", "examples")
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    found = {str(file.relative_to(ROOT)): shadowed(file.read_text(encoding="utf-8")) for file in files}
    assert {file: names_found for file, names_found in found.items() if names_found} == {}


@pytest.mark.parametrize("statement", ["import regimes", "import regimes.cli", "import regimes.experiments"])
def test_a_light_import_loads_nothing_heavy(statement):
    program = f"import sys; {statement}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & set(HEAVY)


@pytest.mark.parametrize("module", ["config", "report", "runs", "sweep", "log", "workers", "console", "verification"])
def test_the_bench_loads_plotting_and_tables_on_use_only(module):
    program = f"import sys, regimes.lab.{module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & set(HEAVY)
