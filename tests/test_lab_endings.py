"""What the one line of an error says of what came."""

import pytest
from command import command

from regimes.errors import nearest


def test_a_value_that_the_parser_refuses_is_named_and_cut_where_it_is_long():
    assert "'--epochs': Input should be a valid integer" in (line := command("train", "--epochs=1.5").err)
    assert "got '1.5'." in line
    assert len(command("train", "--epochs", "9" * 5000).err) < 500


@pytest.mark.parametrize("given", [("--epochs", "1", "--epochs", "1.5"), ("--epochs=1", "--epochs=1")])
def test_an_option_given_twice_is_refused(given):
    assert command("train", *given).err == "error: --epochs may be given once; it came twice. Leave out all but one\n"


def test_a_switch_and_what_gathers_may_come_again():
    given = ("verify", "lazy_rate", "--fresh", "--fresh", "--set", "seeds=3", "--set", "width=8", "--print-config")
    ended = command(*given)
    assert ended.code == 0
    assert "seeds: 3" in ended.out
    assert "width: 8" in ended.out


def test_only_a_name_that_is_near_is_proposed():
    assert nearest("widht", ["width", "compile"]) == " Did you mean 'width'?"
    assert nearest("nope", ["compile", "every"]) == ""
