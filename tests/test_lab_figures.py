import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from torch.testing import assert_close

from regimes.lab import figures


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


def test_a_power_law_is_drawn_with_its_exponent_and_the_band_over_the_seeds():
    _, ax = figures.figure()
    x, seeds = np.repeat([1.0, 10.0, 100.0], 4), np.tile(np.arange(4), 3)
    y = (1 + seeds) * x**-1.5
    assert_close(figures.power_law(ax, x, y, seeds, label="error", number=1), -1.5)
    (line,) = ax.lines
    assert line.get_label() == "error: −1.50"
    assert to_rgb(line.get_color()) == to_rgb(figures.PALETTE[1])
    assert_close(
        np.asarray(line.get_ydata()), 24**0.25 * np.array([1.0, 10.0, 100.0]) ** -1.5
    )  # geometric mean of 1..4
    assert len(ax.collections) == 1


def test_a_power_law_of_one_seed_has_no_band():
    _, ax = figures.figure()
    figures.power_law(ax, [1.0, 10.0], [2.0, 20.0], [0, 0], label="one")
    assert not ax.collections
