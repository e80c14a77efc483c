"""Every command and every snippet of README and docs/, as printed, in one copy, from the top to the bottom.

A comment `<!-- not run: reason -->` before a block leaves it out. Commands that would take long are made small by the
rules below, and by nothing else.
"""

import json
import re
import shutil
import subprocess
import sys
from glob import glob
from pathlib import Path

import pytest
from command import command
from documents import Block, blocks, pages, value, without
from launch import environment

from regimes.experiments import cards, homes
from regimes.lab.kept import documents as with_marks
from regimes.lab.kept import results_in, with_results
from regimes.training.config import TrainConfig, folder_of

ROOT = Path(__file__).parent.parent
OF_CLONE = ("make", "pip", "git", ".", "source", "dask", "torchrun", "export")  # install, or need more machines
SMALL_MAIN = [
    *("width=10", "train_size=10", "test_size=20", "seeds=2", "times=10", "loss_ratio=0.5", "tolerance=1e-3"),
]
LARGE = {"mnist", "cifar10", "cifar100"}  # data that a test does not have


def sets(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def small(words: list[str]) -> list[str] | None:
    """A command at the size of a test, writing where the printed one would; None if it is not for a test."""
    program, *rest = words
    if program in OF_CLONE or program.startswith((".venv/", ".ci/")) or rest[:2] == ["-m", "benchmarks"]:
        return None
    if program == "python" and rest[:1] == ["-m"]:
        return None
    arguments = rest[1:] if program == "python" else rest
    name = arguments[0] if arguments else ""
    out = [] if "--out" in arguments else ["--out"]
    if name == "verify":
        file = value(arguments, "--config")
        where = [*out, f"runs/{Path(file).stem}"] if out and file else []
        return [*without(arguments, "--config", "--data-dir", "--workers"), *where]
    if name == "train":
        flags = {
            key: value(arguments, f"--{key.replace('_', '-')}") for key in ("dataset", "arch", "train_size", "seeds")
        }
        flags |= {"lap": "--lap" in arguments, "mean_field": "--mean-field" in arguments}
        given = {key: flag for key, flag in flags.items() if flag}
        where = [*out, str(folder_of(TrainConfig.model_validate(given)))] if out else []
        tiny = ["--train-size", "60", "--max-steps", "2", *sets("validation=20", "test_size=40")]
        if value(arguments, "--config"):
            arguments = [*without(arguments, "--config"), "--dataset", "digits"]
        given = without(arguments, "--data-dir", "--device", "--train-size", "--max-steps")
        swapped = ["digits" if word in LARGE else word for word in given]
        return [*swapped, *tiny, *where]
    if name == "ot-gap":
        return [*without(arguments, "--data-dir", "--device"), "--points", "20"]
    if name == "lazy-vs-meanfield":
        swapped = ["digits" if word in LARGE else word for word in without(arguments, "--data-dir", "--device")]
        return [*swapped, *sets(*SMALL_MAIN)]
    return arguments


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A folder like a fresh clone, with no runs."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("cli.py", "README.md", "Makefile"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("_*"))
    for name in ("regimes", "configs", "results", "examples"):
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return folder


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    settings = environment(MPLBACKEND="agg")
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=settings, capture_output=True, text=True, check=False
    )


def in_folder(words: list[str], folder: Path) -> list[str]:
    """The words with patterns such as seed? replaced by the files they match, as a shell does it."""
    found = [(word, sorted(glob(word, root_dir=folder)) if "?" in word else []) for word in words]
    return [each for word, files in found for each in files or [word]]


def shell_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page.read_text(encoding="utf-8")) if block.kind == "shell"]


@pytest.mark.slow
@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: page.name)
def test_every_command_of_a_page_works_in_its_order(page, copy, monkeypatch):
    monkeypatch.chdir(copy)
    for block in shell_blocks(page):
        for words in block.commands:
            arguments = small(words)
            if arguments is None:
                continue
            ended = command(*in_folder(arguments, copy))
            allowed = (0, 1) if arguments[0] == "audit" else (0,)
            assert ended.code in allowed, f"{page.name}, line {block.line}: {' '.join(words)}\n{ended.err}"


@pytest.mark.slow
@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: page.name)
def test_every_snippet_of_a_page_runs_as_printed(page, copy):
    snippets = [block for block in blocks(page.read_text(encoding="utf-8")) if block.kind == "python"]
    if snippets:
        done = run(["-c", "\n".join(block.text for block in snippets)], copy)
        assert done.returncode == 0, f"{page.name}: {done.stderr}"


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom_and_shows_what_it_gave(copy):
    cells = json.loads((ROOT / "docs/first_steps.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in code[1:])
    assert "error" not in {output["output_type"] for cell in code for output in cell["outputs"]}
    done = run(["-c", "\n".join("".join(cell["source"]) for cell in code)], copy)
    assert done.returncode == 0, done.stderr


def test_every_configuration_and_target_that_a_page_names_is_there():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in pages(ROOT):
        for block in shell_blocks(page):
            for words in block.commands:
                file = value(words, "--config")
                assert file is None or not file.startswith("configs/") or (ROOT / file).exists(), (page.name, words)
                assert words[0] != "make" or set(words[1:]) <= targets, (page.name, words)
                if words[1:2] == ["-m"] and words[2].startswith("benchmarks."):
                    assert (ROOT / words[2].replace(".", "/")).with_suffix(".py").exists(), (page.name, words)


def test_every_link_of_a_page_leads_to_a_file():
    for page in pages(ROOT):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            made = target.startswith("_generated/")  # by `make docs`
            assert made or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_tables_of_results_are_those_of_the_results():
    titles = {name: card.title for name, card in cards().items()}
    for page in with_marks(ROOT):
        text = page.read_text(encoding="utf-8")
        assert text == with_results(page, ROOT, titles, homes()), f"{page.name} is old: python cli.py report --readme"


PAGE = """A page.

    python cli.py list   # all of them
    python cli.py train --dataset mnist --lap \\
        --data-dir DIR

<!-- not run: it takes a day -->

    python cli.py verify circles --config configs/circles.yaml

```python
x = 1
```

<!-- not run: not ours -->
```sh
rm -r everything
```

    a quotation, no command

```sh
$ regimes verify circles --config configs/circles.yaml --workers 4
```
"""


def test_blocks_are_found_and_those_that_are_not_run_left_out():
    found = blocks(PAGE)
    assert [block.kind for block in found] == ["shell", "python", "shell"]
    assert found[0].commands == [
        ["python", "cli.py", "list"],
        ["python", "cli.py", "train", "--dataset", "mnist", "--lap", "--data-dir", "DIR"],
    ]
    assert found[2].commands[0][:2] == ["regimes", "verify"]
    assert (found[0].line, found[1].text) == (3, "x = 1")


def test_commands_are_made_small_and_write_where_the_printed_ones_would():
    first, last = (block.commands[-1] for block in blocks(PAGE) if block.kind == "shell")
    trained = small(first)
    assert trained is not None
    assert ("mnist" not in trained, value(trained, "--out")) == (True, "runs/train-mnist-resnet9-lap")
    assert small(last) == ["verify", "circles", "--out", "runs/circles"]
    assert small(["make", "run"]) is None


def test_a_page_with_an_old_table_is_found(tmp_path):
    results = tmp_path / "results"
    for name in ("lazy_rate", "circles"):
        shutil.copytree(ROOT / "results" / name, results / name)
    known = {"other": "None", "lazy_rate": "A rate", "circles": "Circles"}
    theories = {"other": "lazy", "lazy_rate": "lazy", "circles": "least_action"}
    front, page = tmp_path / "README.md", tmp_path / "docs" / "statements.md"
    page.parent.mkdir()
    for file in (front, page):
        file.write_text("Top\n<!-- results -->\nold\n<!-- /results -->\nEnd\n")
        new = with_results(file, tmp_path, known, theories)
        assert new.startswith("Top\n<!-- results -->\n\n| ")
        assert new.endswith("<!-- /results -->\nEnd\n")
        file.write_text(new)
        assert with_results(file, tmp_path, known, theories) == new
    assert "[`lazy_rate`](../results/lazy_rate/table.md) | A rate |" in page.read_text()
    assert front.read_text().splitlines()[3:8] == [
        "| verdict | lazy | least action |",
        "| --- | --- | --- |",
        "| supported | [`lazy_rate`](results/lazy_rate/table.md) |  |",
        "| inconclusive |  | [`circles`](results/circles/table.md) |",
        "| not run | `other` |  |",
    ]


def test_a_page_of_findings_says_the_verdict_under_each_heading(tmp_path):
    shutil.copytree(ROOT / "results" / "lazy_rate", tmp_path / "results" / "lazy_rate")
    page = tmp_path / "docs" / "findings_lazy.md"
    page.parent.mkdir()
    page.write_text("### lazy_rate\n\n*Refuted.*\n\nText.\n\n### circles\n\nMore.\n\n### Words\n\n*Stays.*\n")
    known = {"lazy_rate": "A rate", "circles": "Circles"}
    new = with_results(page, tmp_path, known, {"lazy_rate": "lazy", "circles": "least_action"})
    links = "[Table](../results/lazy_rate/table.md), [figure](../results/lazy_rate/figure.png)"
    assert new.startswith(f"### lazy_rate\n\n*Supported; 9 of 9 predictions supported. {links}.*\n\nText.\n\n")
    assert "### circles\n\n*Not run.*\n\nMore." in new
    assert new.endswith("### Words\n\n*Stays.*\n")
    page.write_text(new)
    assert with_results(page, tmp_path, known, {}) == new


def test_every_statement_and_every_result_has_an_entry_on_the_page_of_its_theory():
    entries = {
        (file.stem.removeprefix("findings_"), name)
        for file in (ROOT / "docs").glob("findings_*.md")
        for name in re.findall(r"^### (\w+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    home = homes()
    expected = {(theory, name) for name, theory in home.items()}
    expected |= {(home[str(kept.content["name"])], kept.path.name) for kept in results_in(ROOT / "results")}
    missing = (
        expected - entries - {(home[name], name) for name in home if any(n.startswith(f"{name}_") for _, n in entries)}
    )
    assert (missing, entries - expected) == (set(), set())


def test_every_source_that_is_cited_is_in_the_bibliography():
    listed = set(
        re.findall(r"^\| (\w+) \|", (ROOT / "docs" / "bibliography.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    files = [*(ROOT / "regimes").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "results").glob("*/table.md")]
    cited = {
        key: file for file in files for key in re.findall(r"\[([A-Z][A-Za-z]+(?:19|20)\d\d)\]", file.read_text("utf-8"))
    }
    assert {key: str(file) for key, file in cited.items() if key not in listed} == {}
