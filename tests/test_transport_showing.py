"""What is seen of an exact solve while it runs."""

import sys

import numpy as np
import pytest

import regimes
from regimes.transport import showing
from regimes.transport.discrete import exact_transport
from regimes.transport.pairing import exact_gap


def clouds(n=700, d=2, seed=0):
    return np.random.default_rng(seed).normal(size=(2, n, d))


def test_a_function_is_told_of_each_half_of_a_round_from_the_coarsest_problem_on():
    told = []
    solved = exact_transport(*clouds(), progress=told.append)
    rounds = [state.round for state in told if state.points == 700 and state.doing == "looking at all pairs"]
    assert rounds == list(range(1, solved.rounds + 1))
    assert {state.points for state in told} == {175, 700}
    assert [state.points for state in told] == sorted(state.points for state in told)
    assert [state.seconds for state in told] == sorted(state.seconds for state in told)
    assert all(0 <= state.dual <= state.primal for state in told)
    first, last = (told[k].primal - told[k].dual for k in (0, -1))
    assert last < first
    assert "exact transport of 700 points, first 175 of them, round 1: solving on" in told[0].line()
    assert f"700 points, round {solved.rounds}: looking at all pairs; cost known to" in told[-1].line()


def test_a_line_says_how_long_a_round_takes_and_how_well_the_cost_is_known():
    state = showing.Solving(200_000, 200_000, 2, "looking at all pairs", 2.0, 1.99, 130.4, 61.2)
    line = "exact transport of 200,000 points, round 2: looking at all pairs; cost known to 5.0e-03 of itself; "
    assert state.line() == line + "130 s so far, 61 s a round"


def test_lines_on_stderr_are_a_minute_apart(monkeypatch, capsys):
    exact_transport(*clouds(), progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(showing, "_MINUTE", 0.0)
    exact_transport(*clouds(), progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert all(line.startswith("exact transport of 700 points") for line in captured.err.splitlines())
    assert len(captured.err.splitlines()) >= 4


def test_on_a_terminal_a_line_is_drawn_and_the_cursor_comes_back(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich, what it writes to is a terminal then
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("regimes.transport.columns.stabilise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        exact_transport(*clouds(), progress=True)
    assert capsys.readouterr().err.rindex("\x1b[?25h") > 0


def test_what_a_function_raises_ends_the_solve_and_spoils_nothing():
    def stopped(state):
        if state.points == 700:
            raise KeyboardInterrupt

    x, y = clouds()
    before = x.copy(), y.copy()
    with pytest.raises(KeyboardInterrupt):
        exact_transport(x, y, progress=stopped)
    np.testing.assert_array_equal((x, y), before)
    assert exact_transport(x, y).certified


def test_the_gap_and_the_power_show_their_solves():
    x, t = clouds()
    told = []
    exact_gap(x, t, progress=told.append)
    alone = len(told)
    assert alone > 2
    regimes.ot_gap(x, 2 * x, with_power=True, progress=told.append)
    assert len(told) > 3 * alone
