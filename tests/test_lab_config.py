import math
import shlex
from pathlib import Path

import pytest
from pydantic import Field, field_validator

from regimes.lab.config import Settings, dump, load, override
from regimes.lab.yaml_text import parse_yaml, read_yaml, to_yaml


class Optimiser(Settings):
    step: float = 0.1
    iterations: int = 100


class Config(Settings):
    width: int = Field(10, ge=1)
    alpha: list[float] = [1.0, 10.0]
    name: str = "net"
    flag: bool = False
    optimiser: Optimiser = Optimiser(step=0.5)
    sizes: dict[str, int] = {"small": 1}
    folder: Path | None = None


def written(folder: Path, text: str) -> Path:
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def message(*arguments, **options) -> str:
    with pytest.raises((ValueError, OSError)) as caught:
        load(Config, *arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_later_source_wins(tmp_path):
    file = written(tmp_path, "width: 20\noptimiser: {iterations: 7}\n")
    config = load(Config, file, ["width=30", "alpha=[2]"])
    assert (config.width, config.alpha, config.optimiser.iterations) == (30, [2.0], 7)


def test_a_nested_key_leaves_its_neighbours_as_they_are(tmp_path):
    assert load(Config, None, ["optimiser.iterations=7"]).optimiser == Optimiser(step=0.5, iterations=7)
    assert load(Config, None, ["sizes.big=5"]).sizes == {"small": 1, "big": 5}
    assert Config().sizes == {"small": 1}  # the default itself is not changed


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().width = 3


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e4", 1e4), ("1.5e-3", 1.5e-3), ("5", 5.0), ("-2", -2.0), (".5", 0.5), ("'3'", 3.0), ("010", 10.0)],
)
def test_numbers_are_read_as_people_write_them(text, value):
    assert load(Config, None, [f"optimiser.step={text}"]).optimiser.step == value


def test_a_whole_number_may_be_written_with_an_exponent():
    assert load(Config, None, ["width=1e3"]).width == 1000


def test_yes_and_on_are_texts():
    assert load(Config, None, ["name=on"]).name == "on"
    assert load(Config, None, ["flag=true"]).flag is True


def test_an_unknown_key_names_the_nearest_and_all_known_ones():
    text = message(None, ["widht=3"])
    assert "'widht'" in text
    assert "Did you mean 'width'?" in text
    assert "alpha, name, flag, optimiser" in text


def test_an_unknown_nested_key_lists_the_keys_of_its_group(tmp_path):
    text = message(written(tmp_path, "optimiser: {stp: 3}"))
    assert "'optimiser.stp'" in text
    assert "Did you mean 'step'?" in text
    assert "Known keys: step, iterations" in text


@pytest.mark.parametrize(
    ("setting", "needs"),
    [
        ("width=abc", ["width", "integer", "'abc'"]),
        ("width=1.5", ["width", "integer", "1.5"]),
        ("width=true", ["width", "true or false", "True"]),
        ("alpha=[1, false]", ["alpha", "true or false"]),
        ("alpha=[1, x]", ["alpha.1", "number", "'x'"]),
        ("alpha=3", ["alpha", "list", "3"]),
        ("width=0", ["width", "greater than or equal to 1", "0"]),
        ("width=", ["width", "integer", "None"]),
        ("optimiser.step=nan", ["optimiser.step", "finite"]),
        ("optimiser.step=.inf", ["optimiser.step", "finite"]),
        ("optimiser.step=1e-320", ["optimiser.step: should be 0 or of size 2.2e-308 at least; got 1e-320"]),
        ("alpha=[1, -1.0e-310]", ["alpha: should be 0 or of size 2.2e-308"]),
        ("optimiser=3", ["optimiser", "3"]),
        ("width.a=3", ["'width'", "no keys below"]),
        ("name=[1]", ["name", "string", "[1]"]),
        ("name=3", ["name", "string", "3"]),
    ],
)
def test_a_wrong_type_says_key_need_and_what_came(setting, needs):
    text = message(None, [setting])
    for part in (*needs, f"--set {shlex.quote(setting)}"):
        assert part in text


def test_the_file_is_named_as_the_source_of_a_wrong_value(tmp_path):
    file = written(tmp_path, "width: many")
    assert f"in {file}" in message(file)


def test_several_mistakes_are_counted():
    assert message(None, ["width=a", "name=3"]).endswith("and 1 more")


@pytest.mark.parametrize("text", ["width", "=3", "a..b=3", ""])
def test_an_override_needs_key_and_value(text):
    assert "key=value" in message(None, [text])


def test_an_override_that_is_no_yaml_says_so():
    assert "--set width=[1 is not valid YAML" in message(None, ["width=[1"])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("- 1\n- 2\n", "a list"),
        ("hello", "a text"),
        ("width: [1", "not valid YAML at line"),
        ("width: 1\nwidth: 2", "twice"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, part):
    assert part in message(written(tmp_path, text))


def test_missing_and_unreadable_files_are_named(tmp_path):
    assert "does not exist" in message(tmp_path / "absent.yaml")
    assert "cannot read" in message(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "not text" in message(tmp_path / "binary")


def test_an_empty_file_changes_nothing(tmp_path):
    assert load(Config, written(tmp_path, "# nothing\n")) == Config()


@pytest.mark.parametrize("number", [0.1, 1 / 3, 1e-300, 5e300, 1e5, math.pi, -0.0, 1e22])
def test_a_resolved_configuration_is_read_back_exactly(tmp_path, number):
    config = Config(alpha=[number], name="1e4", folder=tmp_path)
    assert load(Config, written(tmp_path, to_yaml(dump(config)))) == config


@pytest.mark.parametrize("value", [3, 2.5, "a: b # c", "on", "1e4", True, [1, 2], "/some/path with blanks", None])
def test_an_override_made_from_a_value_is_read_back(value):
    assert parse_yaml(override("key", value).partition("=")[2], "") == value


def test_required_settings_are_asked_for():
    class Needs(Settings):
        data: str

    with pytest.raises(ValueError, match="pass --set data=VALUE"):
        load(Needs)
    assert load(Needs, None, ["data=x"]).data == "x"


def test_infinite_numbers_can_be_written_and_read(tmp_path):
    values = {"a": math.inf, "b": -math.inf, "c": 2.0, "d": "x"}
    assert read_yaml(written(tmp_path, to_yaml(values))) == values


def test_one_value_where_several_are_needed_is_told_how_to_be_written():
    assert message(None, ["alpha=3"]) == "alpha: should be a list, such as [3]; got 3 (from --set alpha=3)"


class Named(Settings):
    name: str = "a"

    @field_validator("name")
    @classmethod
    def known(cls, name: str) -> str:
        if name not in "ab":
            raise ValueError(f"needs to be a or b; got {name!r}.")
        return name


def test_a_check_that_says_itself_what_came_says_it_once():
    with pytest.raises(ValueError, match=r"^name: needs to be a or b; got 'c' \(from --set name=c\)$"):
        load(Named, overrides=["name=c"])
