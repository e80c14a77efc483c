"""The benchmark of exact transport measures the cases that it is asked for."""

import sys

import pytest

from benchmarks import exact_ot
from benchmarks.exact_ot import Case, Measured


@pytest.fixture
def measured(monkeypatch):
    """The cases that a command would measure."""
    cases: list[Case] = []
    monkeypatch.setattr(exact_ot, "run", lambda case, *rest: cases.append(case) or "")

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["exact_ot", *arguments])
        exact_ot.main()
        return cases

    return command


def test_cases_are_read_from_the_command_line(measured):
    asked = ["--case", "200,3,network", "--case", "50,64,independent"]
    assert measured(*asked) == [Case(200, 3, "network"), Case(50, 64, "independent")]


@pytest.mark.parametrize(
    "case", ["200,3,magic", "200,3", "x,3,network", "200,0,network", "-5,3,network", "1,2,network,"]
)
def test_another_case_is_refused_with_the_clouds_that_are_known(measured, capsys, case):
    with pytest.raises(SystemExit) as end:
        measured(f"--case={case}")
    assert end.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"points,features,clouds with clouds independent or network; got '{case}'" in line


def test_the_two_kinds_of_clouds_differ_and_keep_their_size():
    made = {kind: exact_ot.clouds(Case(20, 3, kind)) for kind in exact_ot.CLOUDS}
    assert all(x.shape == y.shape == (20, 3) for x, y in made.values())
    assert (made["independent"][0] == made["network"][0]).all()
    assert abs(made["independent"][1] - made["network"][1]).max() > 0.1


def test_the_ratio_is_that_of_the_quickest_rival_and_only_of_equal_answers():
    ours = Measured(2.0, 1.0, 0.1, 5.0, 1e-12, 1, certified=True)
    slow, quick = Measured(8.0, 6.0, 0.1, 5.0), Measured(3.0, 3.0, 0.1, 5.0)
    results = {"ours": ours, "POT": slow, "scipy": quick}
    assert exact_ot.compared(results).startswith("1.50 by the clock (3.00 in seconds of processor), scipy")
    assert exact_ot.compared({"ours": ours}) == "not measured"
    for wrong in (
        {"ours": ours._replace(certified=False)},
        {"POT": slow._replace(cost=5.1)},
        {"POT": slow._replace(cost=float("nan"))},
    ):
        assert exact_ot.compared(results | wrong).startswith("not measured:")
