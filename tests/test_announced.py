"""What is said of how long the tests will take is near what they took."""

from pathlib import Path

import pytest
from announced import TESTS, expected, kind, said

KNOWN = {
    "test_a": 0.1, "test_b": 0.3, "test_c": 2.0, "test_a slow": 4.0, "test_d slow": 6.0, "test_e slow": 90.0,
    "as_users/test_a": 0.01, "as_users/test_f": 0.03,
}  # fmt: skip


def test_files_of_one_name_in_two_folders_are_two():
    kinds = [kind(TESTS / name, slow=False) for name in ("test_a.py", "as_users/test_a.py")]
    assert kinds == ["test_a", "as_users/test_a"]
    assert kind(TESTS / "test_a.py", slow=True) == "test_a slow"
    assert kind(Path("/elsewhere/test_a.py"), slow=False) == "test_a"


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("test_new", 0.3), ("test_new slow", 6.0), ("as_users/test_new", 0.02), ("as_users/test_new slow", 6.0)],
)
def test_an_unknown_file_takes_what_is_usual_among_its_like(name, seconds):
    assert expected([name, name, "test_c"], KNOWN) == pytest.approx(2 * seconds + 2.0)
    assert expected([name], {}) == 0


def test_minutes_are_said_in_words():
    assert said(3, 14.0) == "3 tests take less than a minute of one core; more where it is busy"
    assert [said(1, seconds).split(" of ")[0] for seconds in (60, 89, 91, 960)] == [
        f"1 tests take about {time}" for time in ("1 minute", "1 minute", "2 minutes", "16 minutes")
    ]
