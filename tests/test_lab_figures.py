import math
import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from torch.testing import assert_close

from regimes.lab import figures
from regimes.lab.numbers import Number, geometric_mean
from regimes.lab.report import Interval


def test_a_figure_is_one_column_wide_and_readable_at_that_size(tmp_path):
    figure, ax = figures.figure()
    ax.set_xlabel("width m (1)")
    figures.save(figure, tmp_path)
    height, width, _ = imread(tmp_path / "figure.png").shape
    assert (width, height) == (round(3.4 * 200), round(3.4 * 0.75 * 200))
    assert ax.xaxis.label.get_size() >= 8  # points, printed at this size
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_panels_of_a_wide_figure_keep_their_shape():
    figure, axes = figures.figure(2, 3, width=figures.DOUBLE)
    assert axes.shape == (2, 3)
    assert_close(tuple(map(float, figure.get_size_inches())), (7.0, 7.0 / 3 * 0.75 * 2))


def test_the_same_figure_gives_the_same_files(tmp_path):
    for name in ("a", "b"):
        figure, ax = figures.figure()
        ax.plot([1, 2], [3, 4])
        figures.save(figure, tmp_path, name)
    for kind in ("png", "pdf"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_the_shared_style_stays_inside_its_context():
    before = dict(matplotlib.rcParams)
    with figures.style():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
    figures.figure()
    assert dict(matplotlib.rcParams) == before


def test_the_colours_are_the_eight_of_okabe_and_ito():
    published = [(0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0)]
    ours = [tuple(round(255 * part) for part in to_rgb(color)) for color in figures.PALETTE]
    assert sorted(ours) == sorted([*published, (204, 121, 167)])


def test_a_reference_slope_goes_through_its_point_with_its_slope():
    _, ax = figures.figure()
    line = figures.reference_slope(ax, [2.0, 8.0], 3.0, -1.5, "slope −3/2")
    x, y = line.get_data()
    assert y[0] == 3.0
    assert_close(float(np.log(y[1] / y[0]) / np.log(x[1] / x[0])), -1.5)


def test_a_band_lies_between_its_curves():
    _, ax = figures.figure()
    figures.band(ax, [0.0, 1.0], [1.0, 2.0], [3.0, 5.0], color=figures.PALETTE[0])
    (area,) = ax.collections
    assert_close(area.get_paths()[0].get_extents().get_points().tolist(), [[0.0, 1.0], [1.0, 5.0]])


def test_a_figure_may_go_to_a_run_folder():
    written = {}

    class Folder:
        def write(self, file, content):
            written[file] = content

    figure, _ = figures.figure()
    figures.save(figure, Folder(), "spectrum")
    assert set(written) == {"spectrum.png", "spectrum.pdf"}


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    figure, _ = figures.figure()
    with pytest.raises(FileNotFoundError, match="cannot write"):
        figures.save(figure, tmp_path / "absent")


def test_more_series_than_colours_look_like_no_other():
    looks = [figures.look(number) for number in range(2 * len(figures.PALETTE))]
    assert len({(one["color"], one["marker"], one.get("markerfacecolor")) for one in looks}) == len(looks)
    assert not {(one["color"], one["marker"]) for one in looks[:8]} & {
        (one["color"], one["marker"]) for one in looks[8:]
    }


def test_the_shared_legend_has_every_name_once_and_covers_no_panel(tmp_path):
    made, axes = figures.figure(1, 2, width=figures.DOUBLE)
    for ax, names in zip(axes, (("a", "b"), ("b", "c")), strict=True):
        for name in names:
            ax.plot([1, 2], [3, 4], label=name)
    figures.legend(made, *axes, ncols=3)
    figures.save(made, tmp_path)
    (box,) = made.legends
    assert [text.get_text() for text in box.get_texts()] == ["a", "b", "c"]
    assert not any(box.get_window_extent().overlaps(ax.get_window_extent()) for ax in axes)


def test_panels_without_names_have_no_legend():
    made, ax = figures.figure()
    figures.legend(made, ax)
    assert not made.legends


def test_ticks_stand_at_the_places_measured_and_nowhere_else(tmp_path):
    made, ax = figures.figure()
    ax.plot([1 / 64, 8, 2048], [1, 2, 3])
    ax.set_xscale("log")
    figures.ticks_at(ax.xaxis, [1 / 64, 8, 2048])
    figures.save(made, tmp_path)
    assert [label.get_text() for label in ax.get_xticklabels(which="both")] == ["0.0156", "8", "2048"]


THREE = {1.0: (2.0, (1.0, 4.0)), 10.0: (1.0, (0.5, 2.0)), 100.0: (0.5, (0.25, 1.0))}
NUMBERS = {place: Number(value, Interval(*ends)) for place, (value, ends) in THREE.items()}


def test_a_curve_goes_through_the_values_and_its_band_lies_between_the_intervals_ends():
    _, ax = figures.figure()
    figures.curve(ax, dict(reversed(NUMBERS.items())), number=1, label="error", unit=100.0)
    (line,), (area,) = ax.lines, ax.collections
    assert line.get_label() == "error"
    assert to_rgb(line.get_color()) == to_rgb(figures.PALETTE[1])
    assert_close(line.get_xydata().tolist(), [[1.0, 200.0], [10.0, 100.0], [100.0, 50.0]])
    vertices = area.get_paths()[0].vertices
    at_ten = vertices[vertices[:, 0] == 10.0][:, 1]
    assert_close((at_ten.min(), at_ten.max()), (50.0, 200.0))


def test_bars_reach_to_the_ends_of_the_intervals():
    _, ax = figures.figure()
    figures.curve(ax, NUMBERS, bars=True)
    (drawn,) = ax.containers
    ends = [segment[:, 1].tolist() for segment in drawn.lines[2][0].get_segments()]
    assert_close(ends, [list(ends) for _, ends in THREE.values()])


def test_bars_of_values_raised_to_a_floor_end_there():
    _, ax = figures.figure()
    figures.curve(ax, NUMBERS, bars=True, floor=0.4)
    (drawn,) = ax.containers
    ends = [segment[:, 1].tolist() for segment in drawn.lines[2][0].get_segments()]
    assert_close(ends, [[1.0, 4.0], [0.5, 2.0], [0.4, 1.0]])


def test_marks_of_several_series_stand_beside_each_other_around_their_place():
    moved = [list(figures.beside({2.0: NUMBERS[1.0]}, number, 3, 0.1)) for number in range(3)]
    assert_close(moved, [[1.9], [2.0], [2.1]])
    moved = [list(figures.beside_by({2.0: NUMBERS[1.0]}, number, 2, 1.21)) for number in range(2)]
    assert_close(moved, [[2.0 / 1.1], [2.2]])


def test_the_exponents_of_several_panels_stand_at_one_name():
    number = Number(-1.004, Interval(-2.0, 0.0))
    assert figures.with_exponents("Heun", [number, None]) == "Heun: −1.00, –"
    assert figures.with_exponents("Heun", [None, None]) == "Heun"


@pytest.mark.parametrize("bars", [False, True])
def test_numbers_of_one_seed_have_neither_band_nor_bar(bars):
    _, ax = figures.figure()
    figures.curve(ax, {1.0: Number(2.0, Interval(-np.inf, np.inf))}, bars=bars)
    assert ax.lines[0].get_ydata().tolist() == [2.0]
    lengths = [np.ptp(part.get_segments()[0][:, 1]) for part in ax.collections]
    assert sum(lengths) == 0


def of(*values):
    return geometric_mean(np.array(values))


@pytest.mark.parametrize("bars", [False, True])
def test_two_repetitions_have_marks_and_neither_band_nor_bar(bars):
    _, ax = figures.figure()
    figures.curve(ax, {1.0: of(1.0, 2.0), 2.0: of(1.0, 3.0)}, bars=bars, marker="", number=1)
    assert ax.lines[0].get_marker() == "s"
    lengths = [np.ptp(segment[:, 1]) for part in ax.collections for segment in part.get_segments()]
    assert sum(lengths) == 0
    assert figures.intervals("bands", 2) == "no bands: the intervals of two say nothing"


def test_three_repetitions_have_a_band():
    _, ax = figures.figure()
    figures.curve(ax, {1.0: of(1.0, 2.0, 3.0), 2.0: of(1.0, 3.0, 2.0)}, marker="")
    assert (ax.lines[0].get_marker(), len(ax.collections)) == ("", 1)
    assert figures.intervals("bands", 3) == "bands: 95 % intervals"


@pytest.mark.parametrize(
    ("value", "text"), [(-0.001, "0.00"), (0.001, "0.00"), (-1.004, "−1.00"), (1.0, "1.00"), (-0.005001, "−0.01")]
)
def test_signed_numbers_have_a_true_minus_and_zero_has_no_sign(value, text):
    assert figures.signed(value) == text


def test_what_bands_are_stands_under_the_figure_within_its_width(tmp_path):
    figure, _ = figures.figure()
    figures.explain(
        figure, "Bands: 95 % intervals of the mean over the seeds, by Student's distribution, at each width of the net"
    )
    figures.save(figure, tmp_path)
    (text,) = [text for text in figure.texts if "Bands" in text.get_text()]
    box = text.get_window_extent()
    assert text.get_size() >= 7
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_settings_of_the_user_do_not_matter(tmp_path):
    with matplotlib.rc_context({"text.usetex": True, "font.size": 30, "axes.facecolor": "red", "savefig.dpi": 7}):
        figure, ax = figures.figure()
        ax.set_xlabel("width m")
        figures.save(figure, tmp_path, "theirs")
    figure, ax = figures.figure()
    ax.set_xlabel("width m")
    figures.save(figure, tmp_path, "ours")
    assert (tmp_path / "theirs.png").read_bytes() == (tmp_path / "ours.png").read_bytes()


def test_a_name_in_another_script_is_drawn_without_a_warning(tmp_path):
    figure, ax = figures.figure()
    ax.set_title("実験 ניסוי")
    figures.save(figure, tmp_path)  # warnings are errors here
    assert (tmp_path / "figure.png").exists()


def test_the_command_line_draws_whatever_backend_a_notebook_around_has_set():
    script = """
import sys, regimes.cli
sys.argv = ["regimes", "--version"]
try:
    regimes.cli.main()
finally:
    from regimes.lab import figures
    figures.figure()
"""
    environment = os.environ | {"MPLBACKEND": "that_of_a_notebook"}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_short_logarithmic_axis_has_plain_numbers_that_do_not_touch(tmp_path):
    made, ax = figures.figure(1, 3, width=figures.DOUBLE, height=2.0)
    for each, high in zip(ax, (100.0, 3e4, 100.0), strict=True):
        each.plot([30.0, high], [1.0, 2.0])
        each.set(xscale="log")
    ax[2].set_xticks([30.0, 100.0], ["low", "high"])  # somebody's own stay
    figures.save(made, tmp_path)
    shown = [[label.get_text() for label in each.get_xticklabels(which="both") if label.get_text()] for each in ax]
    assert {"50", "100"} <= set(shown[0])
    assert all(text.replace(".", "").isdigit() for text in shown[0])
    assert all(text.startswith("$") for text in shown[1])
    assert {"low", "high"} <= set(shown[2])


@pytest.mark.parametrize("odd", [[], [0.0], [math.nan, math.inf], [-1.0]])
def test_what_has_no_place_on_a_logarithmic_axis_does_not_cost_the_figure(odd, tmp_path):
    made, ax = figures.figure()
    figures.logarithmic(ax, [30.0, 100.0, *odd] if odd else [])
    ax.plot([1.0, 2.0], [30.0, 100.0])
    figures.save(made, tmp_path)
    assert (tmp_path / "figure.png").stat().st_size > 0
