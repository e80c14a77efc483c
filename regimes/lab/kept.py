"""Results that lie in folders: the last verdict on each statement, and the table of all in the documents."""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from regimes.errors import UserError
from regimes.lab.files import write_whole
from regimes.lab.intervals import Interval
from regimes.lab.report import markdown_table
from regimes.lab.shipped import shipped_folder
from regimes.lab.statements import NO_VERDICT, Verdict, because

NOT_RUN = "not run"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
_MARKED = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
_ENTRY = re.compile(r"^### (\w+)\n\n(?:\*.*\*\n\n?)?", re.MULTILINE)  # a finding; we write the line in italics


class Kept(NamedTuple):
    """A folder with the result.json of a statement."""

    path: Path
    content: dict[str, Any]

    @property
    def verdict(self) -> str | None:
        """None for a run that claims nothing: a smoke run, or one that is not finished."""
        verdict, content = self.content.get("verdict"), self.content
        whole = content.get("points", 0) >= content.get("points_planned", 0)
        return verdict if isinstance(verdict, str) and verdict != NO_VERDICT and whole else None

    def lines(self) -> list[str]:
        """Why the verdict is what it is; then one line a finding: quantity, measured, predicted, verdict and reason."""
        findings = self.findings()
        why = because(self.verdict or "", [finding["verdict"] for finding in findings])
        return [*([why] if why else []), *(_finding(finding) + f": {_judged(finding)}" for finding in findings)]

    def findings(self) -> list[Mapping[str, Any]]:
        """As they are kept; those of a run that claims nothing have no verdict."""
        kept: list[Mapping[str, Any]] = self.content["findings"]
        if self.verdict is not None:
            return kept
        nothing = {"verdict": NO_VERDICT, "reason": ""}
        return [finding if finding["verdict"] == "not measured" else {**finding, **nothing} for finding in kept]

    def held(self) -> str:
        """How many of the measured predictions are supported."""
        verdicts = [finding["verdict"] for finding in self.findings() if finding["verdict"] != "not measured"]
        return f"{verdicts.count('supported')} of {len(verdicts)}" if verdicts and self.verdict is not None else ""

    def deciding(self) -> str:
        """The first finding that has the verdict of the whole."""
        same = [finding for finding in self.findings() if finding["verdict"] == self.verdict]
        return _finding(same[0]) if same and self.verdict != "not measured" else ""


def fits(content: Mapping[str, Any]) -> bool:
    """Whether result.json has what the result of a statement has; one that was altered by hand may not."""
    findings = content.get("findings")
    if not isinstance(findings, list) or not isinstance(content.get("verdict"), str | None):
        return False
    texts = ("quantity", "verdict", "origin")
    if not all(isinstance(one, dict) and all(isinstance(one.get(name), str) for name in texts) for one in findings):
        return False
    try:
        numbers = [float(content.get(name, 0)) for name in ("points", "points_planned")]
        numbers += [end for finding in findings for name in ("measured", "predicted") for end in ends(finding[name])]
    except (TypeError, ValueError, KeyError):
        return False
    return True


def results_in(folder: Path) -> Iterator[Kept]:
    """The results of statements in the folders of a folder."""
    for file in sorted(folder.glob("*/result.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, OSError):
            continue
        if isinstance(content, dict) and fits(content):
            yield Kept(file.parent, content)


def last_results(name: str | None = None) -> list[Kept]:
    """Results of one statement, or of all, the newest last: results/ and runs/ here, and those that come along."""
    ours = shipped_folder("results")
    folders = [Path("results"), Path("runs")]
    if ours != folders[0].resolve():
        folders.append(ours)
    found = [kept for folder in folders for kept in results_in(folder)]
    mine = [kept for kept in found if name in (None, kept.content.get("name"))]
    return sorted(mine, key=lambda kept: str(kept.content.get("started", "")))


def last_verdicts() -> dict[str, str]:
    """The newest verdict on each statement that was run; "no verdict" where no run has one."""
    found: dict[str, str] = {}
    for kept in last_results():
        name = str(kept.content.get("name"))
        found[name] = kept.verdict or found.get(name, NO_VERDICT)
    return found


def statements_table(folder: Path, titles: Mapping[str, str], link: str) -> str:
    """The kept results in Markdown, one line a result, and one for each statement that has none."""
    rows = []
    for name, results in _by_statement(folder, titles).items():
        for kept in results:
            rows.append(
                {
                    "statement": _linked(kept, link),
                    "says": titles.get(name) or kept.content["claim"],
                    "predictions supported": kept.held(),
                    "decided by, for example": kept.deciding(),
                    "verdict": kept.verdict or NO_VERDICT,
                }
            )
        if not results:
            nothing = {"predictions supported": "", "decided by, for example": ""}
            rows.append({"statement": f"`{name}`", "says": titles[name], **nothing, "verdict": NOT_RUN})
    return markdown_table(rows)


def verdicts_table(folder: Path, theories: Mapping[str, str], link: str) -> str:
    """The kept results in Markdown by verdict, a line each, and theory, a column each; every statement is named.

    theories: the theory of each statement.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for name, results in _by_statement(folder, theories).items():
        theory = theories.get(name, "")
        for verdict, word in [(kept.verdict or NO_VERDICT, _linked(kept, link)) for kept in results] or [
            (NOT_RUN, f"`{name}`")
        ]:
            found.setdefault(verdict, {}).setdefault(theory, []).append(word)
    columns = sorted({theory for line in found.values() for theory in line})
    order = {verdict: place for place, verdict in enumerate((*get_args(Verdict), NOT_RUN))}
    return markdown_table([
        {"verdict": verdict} | {theory.replace("_", " "): ", ".join(line.get(theory, [])) for theory in columns}
        for verdict, line in sorted(found.items(), key=lambda pair: (order.get(pair[0], len(order)), pair[0]))
    ])  # fmt: skip


def _by_statement(folder: Path, known: Iterable[str]) -> dict[str, list[Kept]]:
    found: dict[str, list[Kept]] = {name: [] for name in known}
    for kept in results_in(folder):
        found.setdefault(str(kept.content.get("name")), []).append(kept)
    return found


def _linked(kept: Kept, link: str) -> str:
    return f"[`{kept.path.name}`]({link}/{kept.path.name}/table.md)"


def documents(root: Path) -> list[Path]:
    """README.md and the pages of docs/ that have a place for the table, and the pages of findings."""
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    return [page for page in pages if page.is_file() and (_finds(page) or BEGIN in page.read_text(encoding="utf-8"))]


def _finds(page: Path) -> bool:
    return page.name.startswith("findings_")


def with_results(page: Path, root: Path, titles: Mapping[str, str], theories: Mapping[str, str]) -> str:
    """The text of a page with the results as they are now.

    The front page has a table by verdict and theory, other pages the full one. Pages of findings have a line under
    each heading that names a result or a statement: its verdict, how many predictions are supported, and links.
    """
    link = Path(os.path.relpath(root / "results", page.parent)).as_posix()
    brief, folder, text = page.parent == root, root / "results", page.read_text(encoding="utf-8")
    if _finds(page):
        return _with_verdicts(text, folder, titles, link)
    table = verdicts_table(folder, theories, link) if brief else statements_table(folder, titles, link)
    return _MARKED.sub(lambda match: f"{match[1]}\n{table}\n{match[2]}", text)


def _with_verdicts(text: str, folder: Path, known: Iterable[str], link: str) -> str:
    lines = {name: f"{NOT_RUN.capitalize()}." for name in known}
    for kept in results_in(folder):
        name, held = kept.path.name, f"; {kept.held()} predictions supported" if kept.held() else ""
        files = f"[Table]({link}/{name}/table.md), [figure]({link}/{name}/figure.png)"
        lines[name] = f"{(kept.verdict or NO_VERDICT).capitalize()}{held}. {files}."
    return _ENTRY.sub(lambda at: f"### {at[1]}\n\n*{lines[at[1]]}*\n\n" if at[1] in lines else at[0], text)


def rewrite_documents(root: Path, titles: Mapping[str, str], theories: Mapping[str, str]) -> list[Path]:
    """Write the table anew wherever its marks are; the pages that have them."""
    pages = documents(root)
    if not pages:
        raise UserError(
            f"no page here has the lines {BEGIN} and {END}; run this in the root of the repository, and put them where "
            "the table belongs in README.md or docs/*.md"
        )
    for page in pages:
        write_whole(page, with_results(page, root, titles, theories))
    return pages


def _finding(finding: Mapping[str, Any]) -> str:
    measured, predicted = (ends(finding[key]) for key in ("measured", "predicted"))
    return f"{finding['quantity']} {measured}, predicted {predicted}"


def _judged(finding: Mapping[str, Any]) -> str:
    return finding["verdict"] + (f" ({finding['reason']})" if finding.get("reason") else "")


def ends(interval: Any) -> Interval:
    """An interval as result.json holds it: an end without a number is a text, or null."""
    if interval is None:
        return Interval(math.nan, math.nan)
    low, high = (math.nan if end is None else float(end) for end in interval)
    return Interval(low, high)
