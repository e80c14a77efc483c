"""What the panels of a figure have in common."""

from matplotlib.colors import to_hex
from matplotlib.figure import Figure


def colours(made: Figure) -> dict[str, set[str]]:
    """The colours in which the lines and error bars of each name are drawn, over all panels."""
    found: dict[str, set[str]] = {}
    for ax in made.axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            line = handle[0] if isinstance(handle, tuple) else handle
            if hasattr(line, "get_color"):
                found.setdefault(name, set()).add(to_hex(line.get_color()))
    return found
