"""What the one line of an error says of what came."""

import pytest
from command import command

from regimes.errors import nearest


@pytest.mark.parametrize("given", [("--epochs", "1", "--epochs", "1.5"), ("--epochs=1", "--epochs=1.5")])
def test_of_an_option_given_twice_the_value_that_counts_is_named(given):
    ended = command("train", *given)
    assert ended.code == 2
    assert "'--epochs'" in ended.err
    assert "got '1.5'." in ended.err


def test_only_a_name_that_is_near_is_proposed():
    assert nearest("widht", ["width", "compile"]) == " Did you mean 'width'?"
    assert nearest("nope", ["compile", "every"]) == ""
