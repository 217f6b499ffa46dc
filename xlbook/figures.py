"""Results in, pictures out: figures with alt text, tables with language tags, computed sentences.

Every object shows itself in a notebook as a picture or as HTML, and as plain text as one short line without numbers, so
that stored outputs compare equal on every machine.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from xlbook.languages import label, language, normalize

INK, ACCENT, MUTED = "#1b2a41", "#c8553d", "#8d99ae"
PALETTE = ("#1b6ca8", "#c8553d", "#2a9d8f", "#8a5a9e", "#b08900", "#5c6b73", "#1b2a41", "#a23b72")
PALETTE += ("#7a4a1e", "#4f9a1d", "#d8559d", "#2f95d0")  # so many lines and groups look different
STYLE = {
    "figure.dpi": 110,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
}


class Picture:
    """A figure with alt text; ``.figure`` is the matplotlib figure, for assertions on what was plotted."""

    def __init__(self, figure: Figure, alt: str):
        if len(alt.split()) < 5:
            raise ValueError(f"Alt text {alt!r} is too short: say what the axes are and what one sees.")
        self.figure, self.alt = figure, alt

    def _repr_mimebundle_(self, include=None, exclude=None):
        import base64

        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", bbox_inches="tight", facecolor="white")
        picture = base64.b64encode(buffer.getvalue()).decode("ascii")
        return {"image/png": picture, "text/plain": repr(self)}, {"image/png": {"alt": self.alt}}

    def __repr__(self) -> str:
        return "<Picture>"


def picture(draw: Callable, alt: str, *, size: tuple[float, float] = (7.2, 3.4), panels: int = 1) -> Picture:
    """Draw with the course's style and return a picture with alt text.

    Args:
        draw: receives the axes (an array of them if ``panels`` is above 1) and draws on them.
        alt: what a reader who cannot see the picture needs to know.
        size: width and height in inches.
        panels: number of panels side by side.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")  # not of pyplot: your own plots keep their settings
        draw(figure.subplots(1, panels))
    return Picture(figure, alt)


class Html:
    """Something that a notebook shows as HTML and plain text shows as one constant line."""

    def __init__(self, markup: str, plain: str):
        self.markup, self.plain = markup, plain

    def _repr_html_(self) -> str:
        return self.markup

    def __repr__(self) -> str:
        return self.plain


def reading(sentence: str) -> Html:
    """Show a sentence about the numbers above; build it with an f-string, so that its numbers are computed."""
    style = "border-left:4px solid #1b6ca8;padding:.4em .9em;margin:.4em 0;max-width:46em"
    return Html(f'<p style="{style}"><b>Reading.</b> {sentence}</p>', "<Reading>")


def tagged(text: str, code: str) -> str:
    """Return text as HTML with its language and direction, so that browsers shape and order it correctly.

    >>> tagged("a<b", "en")
    '<span lang="en" dir="ltr">a&lt;b</span>'
    """
    return f'<span lang="{normalize(code)}" dir="{language(code).direction}">{html.escape(text)}</span>'


def highlighted(text: str, spans: Sequence[tuple[int, int]], tags: Sequence[str]) -> str:
    """Return a sentence as HTML with its tagged words marked; ``O`` marks nothing.

    >>> highlighted("dim it", [(0, 3), (4, 6)], ["O", "B-device"])
    '<p dir="auto" style="font-size:1.2em">dim <mark title="B-device">it</mark></p>'
    """
    marked, at = "", 0
    for (start, end), tag in zip(spans, tags):
        word = html.escape(text[start:end])
        marked += html.escape(text[at:start]) + (word if tag == "O" else f'<mark title="{tag}">{word}</mark>')
        at = end
    return f'<p dir="auto" style="font-size:1.2em">{marked}{html.escape(text[at:])}</p>'


class Markup(str):
    """Text that is HTML already; :func:`table` does not escape it."""


def text_in(code: str, text: str) -> Markup:
    """Return a table cell with text in a language."""
    return Markup(tagged(text, code))


def table(
    rows: Sequence[Mapping], caption: str, *, digits: int = 2, bold: Mapping[str, Callable] | None = None
) -> Html:
    """Show rows as an HTML table.

    Args:
        rows: dictionaries with the same keys, which become the columns.
        caption: the line above the table.
        digits: decimals of floating-point numbers.
        bold: column -> ``max`` or ``min``: the best cell of that column is set in bold.

    Raises:
        ValueError: if there are no rows, or they have different columns.
    """
    if not rows:
        raise ValueError("table() received no rows.")
    columns = list(rows[0])
    if odd := next((r for r in rows if set(r) != set(columns)), None):
        raise ValueError(f"All rows of a table need the same columns; {columns} and {list(odd)} differ.")
    best = {c: choose([r[c] for r in rows if is_number(r[c])], default=None) for c, choose in (bold or {}).items()}
    cell = "padding:.25em .7em;border-bottom:1px solid #e3e6ea;"
    side = {c: f'style="{cell}text-align:{"right" if is_numeric([r[c] for r in rows]) else "left"}"' for c in columns}
    head = "".join(f'<th scope="col" {side[c]}>{html.escape(str(c))}</th>' if str(c) else "<td></td>" for c in columns)
    body = ""
    for row in rows:
        cells = ""
        for column in columns:
            value = row[column]
            words = shown(value, digits)
            words = f"<b>{words}</b>" if column in best and is_number(value) and value == best[column] else words
            cells += f"<td {side[column]}>{words}</td>"
        body += f"<tr>{cells}</tr>"
    markup = (
        '<div style="overflow-x:auto"><table style="border-collapse:collapse;font-variant-numeric:tabular-nums">'
        f'<caption style="text-align:left;font-weight:bold;padding:.3em 0">{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    return Html(markup, "<Table>")


def is_number(value) -> bool:
    """Return whether a table cell is a number that can be compared: no truth value, not NaN."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and value == value


def is_numeric(column: Sequence) -> bool:
    """Return whether a column of a table holds numbers, apart from what is missing; it is set flush right then."""
    return any(map(is_number, column)) and all(is_number(v) or v is None or v != v for v in column)


def shown(value, digits: int) -> str:
    """Return a table cell's HTML: numbers with thousands separators or fixed decimals, text escaped."""
    if isinstance(value, Markup):
        return str(value)
    if isinstance(value, bool | np.bool_) or value is None:
        return "–" if value is None else "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return "–" if np.isnan(value) else f"{value:,.{digits}f}"
    return html.escape(str(value))


def bars(values: Mapping[str, float], *, title: str, xlabel: str, alt: str, error: Mapping | None = None, mark=None):
    """Draw one horizontal bar a name, in the given order from the top.

    Args:
        values: name -> number.
        title: what the picture shows.
        xlabel: quantity and unit.
        alt: alt text.
        error: name -> (low, high) interval ends.
        mark: draw a dashed line at this value.
    """

    def draw(ax) -> None:
        names = list(values)[::-1]
        heights = [values[n] for n in names]
        spread = None
        if error:
            spread = np.array([[max(0, values[n] - error[n][0]), max(0, error[n][1] - values[n])] for n in names]).T
        ax.barh(names, heights, color=PALETTE[0], xerr=spread, ecolor=MUTED, capsize=3)
        if mark is not None:
            ax.axvline(mark, color=ACCENT, linestyle="--", linewidth=1)
        ax.set(title=title, xlabel=xlabel)
        ax.grid(axis="y", visible=False)

    return picture(draw, alt, size=(7.2, 0.6 + 0.32 * len(values)))


def lines(series: Mapping[str, tuple], *, title: str, xlabel: str, ylabel: str, alt: str, xscale: str = "linear"):
    """Draw one line a name: name -> (x values, y values)."""

    def draw(ax) -> None:
        for name, (x, y) in series.items():
            ax.plot(x, y, marker="o" if len(x) < 20 else "", markersize=4, label=name)
        ax.set(title=title, xlabel=xlabel, ylabel=ylabel, xscale=xscale)
        if xscale == "linear" and all(float(x).is_integer() for xs, _ in series.values() for x in xs):
            ax.xaxis.get_major_locator().set_params(integer=True)  # there is no layer 9.5
        ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))

    return picture(draw, alt)


def scatter(points: Mapping[str, tuple[float, float]], *, title: str, xlabel: str, ylabel: str, alt: str) -> Picture:
    """Draw one labelled dot a name: name -> (x, y)."""

    def draw(ax) -> None:
        ax.scatter([x for x, _ in points.values()], [y for _, y in points.values()], color=PALETTE[0])
        for name, place in points.items():
            ax.annotate(name, place, xytext=(4, 4), textcoords="offset points")
        ax.set(title=title, xlabel=xlabel, ylabel=ylabel)

    return picture(draw, alt)


def heatmap(values, rows: Sequence[str], columns: Sequence[str], *, title: str, xlabel: str, ylabel: str, alt: str):
    """Draw a matrix of shares between 0 and 1 with its numbers: shape (len(rows), len(columns))."""
    values = np.asarray(values)

    def draw(ax) -> None:
        ax.grid(visible=False)
        ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        ax.set_xticks(range(len(columns)), columns)
        ax.set_yticks(range(len(rows)), rows)
        ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
        for (r, c), v in np.ndenumerate(values):
            ax.text(c, r, f"{v:.2f}".lstrip("0"), ha="center", va="center", fontsize=8, color="w" if v > 0.72 else "k")

    return picture(draw, alt, size=(1.8 + 0.55 * len(columns), 1.2 + 0.36 * len(rows)))


def names(codes: Sequence[str]) -> list[str]:
    """Return labels for axes: code and English name."""
    return [label(c) for c in codes]
