"""Pictures have alt text and can be asserted on; text is escaped and tagged; plain text is the same everywhere."""

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest

from xlbook import figures
from xlbook.figures import Html, Picture, bars, heatmap, lines, names, picture, reading, shown, table, tagged, text_in
from xlbook.pages import contrast

ALT = "Bars of accuracy by language, all about equal."


class Cells(HTMLParser):
    """Reads a table: rows of (tag, text), and whether a cell is bold."""

    def __init__(self, markup: str):
        super().__init__()
        self.rows, self.bold, self.open = [], [], []
        self.feed(markup)
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += text
            if "b" in self.open:
                self.bold.append(text)


# --- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alt", ["", "A figure", "Bars of accuracy, nice"])
def test_a_picture_needs_alt_text(alt):
    with pytest.raises(ValueError, match="Alt text .* is too short"):
        bars({"en": 0.9}, title="t", xlabel="x", alt=alt)


def test_a_notebook_gets_png_alt_text_and_a_constant_line():
    shown_picture = bars({"en": 0.9, "fi": 0.5}, title="Accuracy", xlabel="share", alt=ALT)
    data, metadata = shown_picture._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG\r\n")
    assert metadata == {"image/png": {"alt": ALT}}
    assert data["text/plain"] == repr(shown_picture) == "<Picture>"


def test_bars_plot_the_values_from_the_top():
    values = {"en": 0.9, "fi": 0.5, "ko": 0.7}
    (ax,) = bars(values, title="Accuracy", xlabel="share", alt=ALT, mark=0.25).figure.axes
    assert [p.get_width() for p in ax.patches] == [0.7, 0.5, 0.9]  # matplotlib counts from the bottom
    assert [t.get_text() for t in ax.get_yticklabels()] == ["ko", "fi", "en"]
    assert (ax.get_title(loc="left"), ax.get_xlabel()) == ("Accuracy", "share")
    assert list(ax.lines[-1].get_xdata()) == [0.25, 0.25]


def test_bars_draw_intervals_where_they_are():
    (ax,) = bars(
        {"en": 0.9, "fi": 0.5}, title="t", xlabel="x", alt=ALT, error={"en": (0.8, 0.95), "fi": (0.4, 0.7)}
    ).figure.axes
    spans = ax.collections[0].get_segments()
    assert np.array(spans)[:, :, 0] == pytest.approx(np.array([[0.4, 0.7], [0.8, 0.95]]))


def test_lines_plot_each_series():
    (ax,) = lines(
        {"a": ([1, 10], [3, 2]), "b": ([1, 10], [5, 4])}, title="t", xlabel="x", ylabel="y", alt=ALT, xscale="log"
    ).figure.axes
    assert [line.get_label() for line in ax.lines] == ["a", "b"] and ax.get_xscale() == "log"
    assert list(ax.lines[1].get_xdata()) == [1, 10] and list(ax.lines[1].get_ydata()) == [5, 4]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]


@pytest.mark.parametrize(("x", "whole"), [((9, 10, 11), True), ((0.0, 0.5, 1.0), False)])
def test_lines_over_layers_have_no_ticks_between_them(x, whole):
    (ax,) = lines({"a": (x, (1, 2, 3))}, title="t", xlabel="layer", ylabel="y", alt=ALT).figure.axes
    assert all(float(tick).is_integer() for tick in ax.get_xticks()) == whole


def test_heatmap_shows_the_matrix_and_its_numbers():
    matrix = [[1.0, 0.25, 0.5], [0.0, 0.75, 0.333]]
    (ax,) = heatmap(
        matrix, ["en", "fi"], ["en", "fi", "ko"], title="t", xlabel="test", ylabel="train", alt=ALT
    ).figure.axes
    assert ax.images[0].get_array().tolist() == matrix and ax.images[0].get_clim() == (0, 1)
    assert [t.get_text() for t in ax.texts] == ["1.00", ".25", ".50", ".00", ".75", ".33"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["en", "fi", "ko"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["en", "fi"]


def test_picture_gives_as_many_axes_as_panels():
    seen = []
    both = picture(lambda axes: seen.append(np.shape(axes)), ALT, panels=2)
    assert seen == [(2,)] and len(both.figure.axes) == 2
    assert picture(lambda ax: ax.plot([1, 2]), ALT, size=(5, 2)).figure.get_size_inches().tolist() == [5, 2]


def test_the_course_style_is_used_and_does_not_stay():
    with matplotlib.rc_context({"axes.grid": False, "axes.spines.top": True, "font.size": 3.0}):
        before = dict(matplotlib.rcParams)
        (ax,) = picture(lambda ax: ax.plot([1, 2]), ALT).figure.axes
        assert not ax.spines["top"].get_visible()
        assert dict(matplotlib.rcParams) == before


def test_importing_figures_leaves_the_readers_own_plots_alone():
    code = (
        "import matplotlib; matplotlib.use('svg'); import xlbook.figures as f; import matplotlib.pyplot as plt;"
        "f.bars({'a': 1}, title='t', xlabel='x', alt='one two three four five');"
        "print(matplotlib.get_backend(), plt.get_fignums())"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.split() == ["svg", "[]"]


def test_axis_labels_are_codes_and_english_names():
    assert names(["zh", "ar"]) == ["zh Chinese", "ar Arabic"]
    assert all(name.isascii() for name in names(["hi", "ko", "ru"]))


def test_a_picture_can_be_made_of_any_figure():
    assert Picture(matplotlib.figure.Figure(), ALT).alt == ALT


# --- text and tables -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ar", '<span lang="ar" dir="rtl">a&lt;b&gt; &amp; &quot;c&quot;</span>'),
        ("zh-CN", '<span lang="zh" dir="ltr">a&lt;b&gt; &amp; &quot;c&quot;</span>'),
    ],
)
def test_text_is_escaped_and_tagged_with_language_and_direction(code, expected):
    assert tagged('a<b> & "c"', code) == expected


def test_a_table_shows_its_rows():
    rows = [
        {"name": "<b>", "n": 12345, "score": 0.12345, "ok": True},
        {"name": "x", "n": 7, "score": float("nan"), "ok": None},
    ]
    out = table(rows, 'A "caption" & more', digits=3)
    assert repr(out) == "<Table>" and isinstance(out, Html)
    assert Cells(out.markup).rows == [
        ["name", "n", "score", "ok"],
        ["<b>", "12,345", "0.123", "yes"],
        ["x", "7", "–", "–"],
    ]
    assert "<caption" in out.markup and "A &quot;caption&quot; &amp; more" in out.markup and "&lt;b&gt;" in out.markup
    assert out.markup.count('scope="col"') == 4


def test_numbers_are_aligned_right_and_text_left():
    markup = table([{"a": 1, "b": "x", "c": np.float32(0.5), "d": True}], "c").markup
    assert re.findall(r"<td[^>]*text-align:(\w+)", markup) == ["right", "left", "right", "left"]


def test_a_column_is_aligned_as_a_whole_and_its_heading_with_it():
    rows = [
        {"mixed": "text", "n": 1, "gap": None, "none": None},
        {"mixed": 2, "n": 2.5, "gap": float("nan"), "none": None},
        {"mixed": None, "n": np.int64(3), "gap": 1, "none": None},
    ]
    markup = table(rows, "c").markup
    expected = ["left", "right", "right", "left"]
    assert re.findall(r"<th[^>]*text-align:(\w+)", markup) == expected
    assert re.findall(r"<td[^>]*text-align:(\w+)", markup) == 3 * expected


def test_a_column_without_a_name_has_no_empty_heading():
    assert table([{"": "gain", "n": 1}], "c").markup.count("<th") == 2  # thead, and one th
    assert "<thead><tr><td></td><th" in table([{"": "gain", "n": 1}], "c").markup


def test_the_numbers_of_a_heatmap_can_be_read_on_their_cells():
    values = np.linspace(0, 1, 41).reshape(1, -1)
    picture = heatmap(values, ["a"], [str(n) for n in range(41)], title="t", xlabel="x", ylabel="y", alt=ALT)
    (ax,) = picture.figure.axes
    for text, value in zip(ax.texts, values[0]):
        cell = matplotlib.colors.to_hex(matplotlib.colormaps["Blues"](value))
        assert contrast(matplotlib.colors.to_hex(text.get_color()), cell) >= 4.5, value


def test_a_dozen_lines_have_different_colours():
    series = {str(n): ((0, 1), (n, n)) for n in range(12)}
    (ax,) = lines(series, title="t", xlabel="x", ylabel="y", alt=ALT).figure.axes
    assert len({line.get_color() for line in ax.lines}) == 12


def test_text_in_a_language_is_not_escaped_twice():
    markup = table([{"text": text_in("ar", "أ<")}], "c").markup
    assert '<span lang="ar" dir="rtl">أ&lt;</span>' in markup


@pytest.mark.parametrize("kind", [float, np.float64, np.float32])
def test_the_best_cell_of_a_column_is_bold(kind):
    rows = [
        {"m": "c", "up": kind("nan"), "down": "-"},
        {"m": "a", "up": kind(0.25), "down": 3},
        {"m": "b", "up": kind(0.75), "down": np.int64(2)},
    ]
    cells = Cells(table(rows, "c", bold={"up": max, "down": min}).markup)
    assert cells.bold == ["0.75", "2"]


def test_a_column_without_numbers_has_no_best_cell():
    assert Cells(table([{"m": "a"}, {"m": None}], "c", bold={"m": max}).markup).bold == []


def test_no_rows_or_uneven_rows_are_errors():
    with pytest.raises(ValueError, match="no rows"):
        table([], "c")
    with pytest.raises(ValueError, match=r"same columns; \['a', 'b'\] and \['a'\] differ"):
        table([{"a": 1, "b": 2}, {"a": 1}], "c")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.bool_(True), "yes"),
        (False, "no"),
        (np.int64(1000), "1,000"),
        (np.float32(0.5), "0.50"),
        (1234.5, "1,234.50"),
        ("<i>", "&lt;i&gt;"),
        (None, "–"),
        ((1, "<"), "(1, &#x27;&lt;&#x27;)"),
    ],
)
def test_cells(value, expected):
    assert shown(value, 2) == expected


def test_a_reading_is_a_constant_line_in_plain_text():
    out = reading(f"Half of it: {0.5:.0%}.")
    assert repr(out) == "<Reading>" and "Half of it: 50%." in out._repr_html_()


def test_plain_text_has_no_numbers():
    objects = [table([{"a": 0.123}], "c 1"), reading("0.5"), bars({"a": 0.1}, title="t", xlabel="x", alt=ALT)]
    assert not any(re.search(r"\d", repr(o)) for o in objects)


def test_colours_can_be_told_from_white():
    for colour in (*figures.PALETTE, figures.INK, figures.ACCENT):
        parts = np.array(matplotlib.colors.to_rgb(colour))
        linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 3.0  # WCAG 2.1, graphical objects
