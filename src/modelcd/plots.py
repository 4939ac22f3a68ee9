"""The evidence of a release as a picture: one panel a guard, over the time of the release.

Drawn from what `explain --json` prints, so that whoever has that can draw it again.  Matplotlib comes with MLflow and
takes half a second to import, so it is imported when a picture is asked for.  The same release gives the same bytes of
SVG: nothing of a picture depends on when or where it was drawn.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelcd.domain.figures import ratio
from modelcd.domain.trace import elapsed
from modelcd.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("svg", "png")

AGAINST, FOR, GREY = "#b2182b", "#2166ac", "#6b6b6b"
"""Red and blue of ColorBrewer's RdBu, told apart by the colour-blind; line styles tell them apart in grey."""

LEAST, MOST = 1e-2, 1e9
"""Odds are drawn between these: a certain answer would leave no room for the way to it."""

Plain = Mapping[str, Any]


def format_of(file: Path) -> str:
    """Return the format that the ending of *file* asks for; raises `UsageError` for another than svg and png."""
    kind = file.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UsageError(f"a picture is .svg or .png, got {file.name}", help="--plot evidence.svg")
    return kind


def picture(over_time: Plain, kind: str = "svg") -> bytes:
    """Draw the `evidence_over_time` of a release, which must have had a look, as an image of that *kind*."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    guards = over_time["guards"]
    # Words stay words in SVG: it is smaller, and they can be searched.  The font is the one that matplotlib brings.
    settings = rc_context(
        {
            "svg.hashsalt": over_time["release"],
            "svg.fonttype": "none",
            "font.family": "DejaVu Sans",
            "text.parse_math": False,
        }
    )
    with settings:
        figure = Figure(figsize=(9.0, 1.1 + 1.9 * len(guards)), layout="constrained")
        FigureCanvasAgg(figure)
        panels = list(figure.subplots(len(guards), 1, sharex=True, squeeze=False)[:, 0])
        unit, size = _unit(over_time)
        for axes, guard in zip(panels, guards, strict=True):
            _panel(axes, guard, over_time, size)
        _steps(panels, over_time, size)
        panels[-1].set_xlabel(f"{unit} since the release was opened", fontsize=8)
        lines, names = panels[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower center", fontsize=8, ncols=2, frameon=False)
        figure.suptitle(over_time["title"], fontsize=10)
        drawn = BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(drawn, format=kind, dpi=130, metadata=metadata)
    return drawn.getvalue()


def embedded(over_time: Plain) -> str:
    """Return the picture as Markdown that carries it along."""
    return f"![evidence over time](data:image/svg+xml;base64,{b64encode(picture(over_time)).decode()})"


def _panel(axes: Axes, guard: Plain, over_time: Plain, size: float) -> None:
    points = over_time["points"]
    at = [elapsed(over_time["opened"], point["at"]) / size for point in points]
    readings = [point["guards"][guard["name"]] for point in points]
    for name, colour, style, bar, label in (
        ("against", AGAINST, "-", guard["bar"], "evidence that it is worse"),
        ("certificate", FOR, "--", guard["certificate_bar"], "certificate that it is not, by the step's tolerance"),
    ):
        odds = [min(max(reading[name], LEAST), MOST) for reading in readings]
        axes.plot(at, odds, style, color=colour, linewidth=1.4, label=label, drawstyle="steps-post")
        axes.plot(at[-1:], odds[-1:], "o" if style == "-" else "s", color=colour, markersize=3)
        axes.axhline(bar, color=colour, linewidth=0.8, linestyle=":" if style == "-" else "-.")
        axes.annotate(
            f" bar {ratio(bar)}",
            (1.0, bar),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=colour,
        )
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, LEAST / 2), max(high, 3 * guard["bar"]))
    axes.yaxis.set_major_formatter(lambda odds, _: f"{odds:,.0f} : 1" if odds >= 1 else f"1 : {1 / odds:,.0f}")
    axes.set_ylabel(guard["name"], fontsize=9)
    axes.tick_params(labelsize=7)
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)


def _steps(panels: Sequence[Axes], over_time: Plain, size: float) -> None:
    """Draw each change of share through all panels, and name it above the first; the end is named, too."""
    for mark in over_time["marks"]:
        at = elapsed(over_time["opened"], mark["at"]) / size
        ends = bool(mark["ending"])
        for axes in panels:
            axes.axvline(at, color="black" if ends or mark["back"] else GREY, linewidth=1.2 if ends else 0.8, zorder=0)
        said = mark["ending"] if ends else f"{mark['share']:g} %"
        panels[0].annotate(
            said,
            (at, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, 2 if not ends else 11),
            textcoords="offset points",
            fontsize=7,
            ha="right" if ends else "left",
            fontweight="bold" if ends else "normal",
        )


def _unit(over_time: Plain) -> tuple[str, float]:
    """Return the unit of time that suits the release, and its seconds."""
    moments = [*over_time["points"], *over_time["marks"]]
    lasted = max(elapsed(over_time["opened"], moment["at"]) for moment in moments)
    for unit, size in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if lasted >= 2 * size:
            return unit, size
    return "seconds", 1.0
