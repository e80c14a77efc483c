"""Tables of the kept results, from folders of any content."""

import json

from regimes.lab.kept import verdicts_table


def test_a_verdict_that_is_not_known_comes_last(tmp_path):
    for name, verdict in (("a", "promising"), ("b", "supported"), ("c", "another")):
        (tmp_path / name).mkdir()
        content = {"name": name, "verdict": verdict, "findings": []}
        (tmp_path / name / "result.json").write_text(json.dumps(content))
    lines = verdicts_table(tmp_path, {"a": "lazy", "b": "lazy", "c": "lazy", "d": "lazy"}, "results").splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["supported", "not run", "another", "promising"]
