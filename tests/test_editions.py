"""Editions from one source: the same code everywhere, no solution for learners, and no page that needs a network."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner

from xlbook import cli, course, editions, pages, slides, sources, website
from xlbook.pages import EditionError
from xlbook.show import show

ROOT = Path(__file__).parents[1]
STORED = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SECRET = "return sorted(words, key=len)[-1]  # the answer"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/x)"
)
REVEAL = ("dist/reveal.js", "dist/reveal.css", "plugin/notes/notes.js", "LICENSE")


def markdown(source, **metadata):
    return nbformat.v4.new_markdown_cell(source, metadata=metadata)


def code(source, *tags, text="", data=None, metadata=None, **more):
    outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)] if text else []
    if data:
        outputs.append(nbformat.v4.new_output("display_data", data=data, metadata=metadata or {}))
    more = {**more, **({"tags": list(tags)} if tags else {})}
    return nbformat.v4.new_code_cell(source, outputs=outputs, execution_count=1, metadata=more)


def cells():
    """A chapter that has everything: formula, links, picture, foreign script, exercise, answers used later, notes."""
    return [
        markdown(f"# 00 · The longest word\n\n{BADGE}\n\n**You will be able to**\n- find words;\n- say *why*.\n\n"
                 "**Needs:** nothing. **Minutes:** 1. **Memory:** 1 GB."),
        code("import sys\n\nprint('a' < 'b')", text="True\n"),
        markdown("## Words\n\nA word is a [token](../docs/glossary.md#token-of-text). " + "It goes on. " * 60 + "\n\n"
                 "| a | b |\n|---|---|\n| 1 | 2 |", instructor="Minutes: 4\nAsk first: how many?"),
        markdown("**Predict first.** Let $x_i \\le 2$. What is `$x$`?\n\n$$\\frac{a}{b}$$"),
        code("words = ['a', 'ab']", instructor="Minutes: 3\nMisunderstanding: letters are not bytes\njust say it"),
        code("show(words)", data={"image/png": PNG, "text/plain": "<Picture>"},
             metadata={"image/png": {"alt": "A grey dot in the middle of a white field."}}),
        code("table()", data={"text/html": "<table><tr><td lang='ar' dir='rtl'>باب</td></tr></table>"
                                           "<script>x()</script><img src='https://example.org/x.png' alt='far'>"}),
        markdown("### Exercise 00.1 · Longest (easy, 5 minutes)\n\nSee [chapter 01](01_second.ipynb)."),
        code("def longest(words): ...\n\n\ncheck('00.1', longest)", "exercise", text="✗ Exercise 00.1: still open\n"),
        markdown("<details><summary>Hint: if it is short</summary>\nLook at `len`.\n</details>"),
        code(f"def longest(words):\n    {SECRET}\n\n\ncheck('00.1', longest)", "solution", text="✓ Exercise 00.1\n",
             jupyter={"source_hidden": True}),
        code("found = longest(words)", text="ab\n"),
        code("print(found)", text="ab\n"),
        code("found = 1\nprint(found)", text="1\n"),
        markdown("So much for words.\n\n## Summary\n\n- Words are long.\n- Not all of them.", instructor="Minutes: 2"),
    ]  # fmt: skip


def save(folder, stem, cells):
    folder.mkdir(parents=True, exist_ok=True)
    for number, cell in enumerate(cells):
        cell.id = f"c{number}"
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    nbformat.write(notebook, folder / f"{stem}.ipynb")
    return folder / f"{stem}.ipynb"


def fake_reveal(cache):
    entry = cache / "sources" / sources.SOURCES["reveal.js"].folder
    for name in REVEAL:
        file = entry / "sphinx_revealjs/_static/revealjs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"/* {name} */", encoding="utf-8")
    sources.write_manifest(entry, "test")


def course_of_two(tmp_path, cache) -> Path:
    """Write a course of two small chapters, with reveal.js in the cache."""
    folder = tmp_path / "course"
    save(folder / "notebooks", "00_first", cells())
    save(folder / "notebooks", "01_second", [markdown("# 01 · Second\n\nBack to [00](00_first.ipynb)."), code("1 + 1")])
    (folder / "docs").mkdir()
    (folder / "docs" / "glossary.md").write_text(
        "# Glossary\n\n## Token of text\nA `piece` of a text.\n\n## BPE\nMerges.\n", encoding="utf-8"
    )
    fake_reveal(cache)
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch, cache):
    """A course of two small chapters in the current folder."""
    folder = course_of_two(tmp_path, cache)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """All editions of such a course, made once; tests only read them."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XLBOOK_CACHE", str(folder / "cache"))
        monkeypatch.chdir(course_of_two(folder, folder / "cache"))
        editions.build(folder / "out")
    return folder / "out"


def sources_of(notebook, *without):
    return [c.source for c in notebook.cells if c.cell_type == "code" and not set(without) & pages.tags(c)]


def texts_of(notebook):
    return [c.source for c in notebook.cells if c.cell_type == "markdown"]


def shown_code(page: Path) -> list[str]:
    """The code that an HTML page shows."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    return [area.get_text().strip() for area in soup.select(".jp-InputArea-editor pre")]


def read(out, edition, stem="00_first"):
    return nbformat.read(out / edition / f"{stem}.ipynb", as_version=4)


def test_rendered_cells_can_be_read_in_every_theme_and_at_every_width():
    source = show(pages.tags)
    cells = [
        markdown("$$a = b$$\n\n| | x |\n|--|--|\n| y | 1 |"),
        code("show(tags)", data={"text/html": source._repr_html_()}),
    ]
    soup = pages.soup_of(nbformat.v4.new_notebook(cells=cells), {})
    assert [e.name for e in soup.select(".wide > *")] == ["math", "table"]
    assert [e.name for e in soup.select("thead td, thead th")] == ["td", "th"]
    (shown,) = soup.select(".jp-OutputArea .highlight")
    assert shown.get_text().strip() == str(source) and shown.select("span.nf")
    assert not [e for e in shown.select("[style]") if "color" in e["style"]]


# --- the same code everywhere, no solution for learners ---------------------------------------------------------------


def test_code_is_the_same_in_all_editions(home, built):
    source = nbformat.read(home / "notebooks" / "00_first.ipynb", as_version=4)
    everything, given = sources_of(source), sources_of(source, "solution")
    assert len(everything) == len(given) + 1
    assert sources_of(read(built, "solution")) == sources_of(read(built, "instructor")) == everything
    assert sources_of(read(built, "learner")) == given
    assert shown_code(built / "site" / "00_first.html") == everything
    assert shown_code(built / "slides" / "00_first.html") == sources_of(source, "solution", "exercise")


def test_the_learner_gets_no_solution_in_any_form(built):
    text = (built / "learner" / "00_first.ipynb").read_text(encoding="utf-8")
    assert "the answer" not in text and "✓" not in text and "Ask first" not in text and "source_hidden" not in text
    exercise = next(c for c in read(built, "learner").cells if "exercise" in pages.tags(c))
    assert exercise.outputs == [] and exercise.execution_count is None
    assert "the answer" not in (built / "slides" / "00_first.html").read_text(encoding="utf-8")


def test_the_learner_gets_every_text_the_hints_included(home, built):
    source = nbformat.read(home / "notebooks" / "00_first.ipynb", as_version=4)
    assert texts_of(read(built, "learner")) == texts_of(source)
    assert any("Hint: if it is short" in text for text in texts_of(read(built, "learner")))


def test_cells_that_use_an_answer_do_not_stop_the_learner(built):
    by_source = {c.source: c for c in read(built, "learner").cells}
    for source in ("found = longest(words)", "print(found)"):
        assert "raises-exception" in pages.tags(by_source[source]) and by_source[source].outputs == []
    again = by_source["found = 1\nprint(found)"]
    assert "raises-exception" not in pages.tags(again) and again.outputs


def test_the_solution_edition_has_the_solution_unfolded_and_no_notes(built):
    solved = next(c for c in read(built, "solution").cells if "solution" in pages.tags(c))
    assert SECRET in solved.source and "source_hidden" not in solved.metadata.get("jupyter", {})
    assert "Ask first" not in (built / "solution" / "00_first.ipynb").read_text(encoding="utf-8")


def test_the_site_folds_the_solution(built):
    soup = BeautifulSoup((built / "site" / "00_first.html").read_text(encoding="utf-8"), "html.parser")
    assert SECRET in soup.select_one("details.solution").get_text()
    assert soup.get_text().count("# the answer") == 1


def test_building_changes_no_source_and_is_repeatable(home, built, tmp_path):
    before = (home / "notebooks" / "00_first.ipynb").read_bytes()
    editions.build(tmp_path / "again")
    assert (home / "notebooks" / "00_first.ipynb").read_bytes() == before
    files = [f.relative_to(built) for f in sorted(built.rglob("*")) if f.is_file()]
    assert len(files) > 20
    assert [f for f in files if (built / f).read_bytes() != (tmp_path / "again" / f).read_bytes()] == []


@pytest.mark.parametrize("file", STORED, ids=lambda f: f.stem)
def test_stored_chapters_become_editions_with_the_same_code(file):
    chapter = pages.read(file)
    everything, given = sources_of(chapter.notebook), sources_of(chapter.notebook, "solution")
    assert sources_of(editions.solution(chapter)) == sources_of(editions.instructor(chapter)) == everything
    learner = editions.learner(chapter)
    assert sources_of(learner) == given and len(given) < len(everything)
    nbformat.validate(learner)
    text = nbformat.writes(learner)
    solved = [c for c in chapter.notebook.cells if "solution" in pages.tags(c)]
    lines = {line.strip() for c in solved for line in c.source.splitlines() if len(line.strip()) > 25}
    elsewhere = "\n".join(c.source for c in chapter.notebook.cells if "solution" not in pages.tags(c))
    leaked = [line for line in lines if line not in elsewhere and json.dumps(line)[1:-1] in text]
    assert leaked == [] and lines
    assert all(c.outputs == [] for c in learner.cells if "exercise" in pages.tags(c))
    assert texts_of(learner) == texts_of(chapter.notebook) and "<summary>Hint" in "".join(texts_of(learner))


@pytest.mark.parametrize("file", STORED, ids=lambda f: f.stem)
def test_every_stored_picture_says_what_it_shows(file):
    notebook = pages.read(file).notebook
    alt = pages.alt_texts(notebook)
    assert alt and [text for text in alt if len(text.split()) < 5] == []
    assert not re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=)", "".join(texts_of(notebook)))


@pytest.mark.parametrize("file", STORED, ids=lambda f: f.stem)
def test_stored_notes_can_be_read(file):
    for cell in pages.read(file).notebook.cells:
        assert pages.minutes(cell) <= 40
        labels = {label for label, _ in pages.notes(cell)}
        assert labels <= set(pages.NOTE_LABELS), f"{labels} in {cell.source[:60]!r}"


# --- notes ------------------------------------------------------------------------------------------------------------


def test_the_instructor_gets_a_timetable_and_the_notes_at_their_places(built):
    sources = [c.source for c in read(built, "instructor").cells]
    assert "| Words | 7 | 7 |" in sources[1] and "| Summary | 2 | 9 |" in sources[1]
    place = {s.splitlines()[0]: n for n, s in enumerate(sources)}
    text, run = place["## Words"], place["words = ['a', 'ab']"]
    assert "> **Ask first:** how many?" in sources[text + 1], "a note on a text follows it"
    assert "letters are not bytes" in sources[run - 1] and "> **Say:** just say it" in sources[run - 1]


def test_a_plan_that_is_no_number_is_refused():
    with pytest.raises(EditionError, match="Minutes: 5"):
        pages.minutes(code("1", instructor="Minutes: five"))


def test_a_chapter_without_a_plan_has_no_timetable():
    chapter = pages.Chapter("00_x", "X", nbformat.v4.new_notebook(cells=[markdown("# 00 · X"), code("1")]))
    assert [c.source for c in editions.instructor(chapter).cells] == ["# 00 · X", "1"]


# --- pages ------------------------------------------------------------------------------------------------------------


def resources(page: Path) -> list[str]:
    """Everything that a browser would fetch for a page by itself."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    found = [t.get("src") for t in soup.select("script, img, iframe, source, video, audio, embed, input")]
    found += [t.get("href") for t in soup.select("link")] + [t.get("data") for t in soup.select("object")]
    return [address for address in found if address]


def test_no_page_needs_a_network(built):
    html = sorted(built.rglob("*.html"))
    assert len(html) >= 7
    for page in html:
        for address in resources(page):
            assert not re.match(r"(https?:)?//", address), f"{page.name} loads {address}"
            assert address.startswith("data:") or (page.parent / address).is_file(), f"{page.name} lacks {address}"
    for file in [*built.rglob("*.css"), *(built / "site").rglob("*.js")]:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//|fetch\(|XMLHttpRequest|import\(", text), file.name


def test_every_link_of_the_site_leads_somewhere(built):
    site = built / "site"
    soups = {f.name: BeautifulSoup(f.read_text(encoding="utf-8"), "html.parser") for f in site.glob("*.html")}
    links = [(name, a["href"]) for name, soup in soups.items() for a in soup.select("a[href]")]
    inner = [(name, href) for name, href in links if not href.startswith("http")]
    assert ("00_first.html", "01_second.html") in inner and ("00_first.html", "glossary.html#token-of-text") in inner
    for name, href in inner:
        page, _, anchor = href.partition("#")
        target = soups[page or name]
        assert not anchor or target.find(id=anchor), f"{name}: {href} leads nowhere"


def test_every_picture_has_its_alt_text(built):
    for edition in ("site", "slides"):
        soup = BeautifulSoup((built / edition / "00_first.html").read_text(encoding="utf-8"), "html.parser")
        assert [i.get("alt") for i in soup.select("img")] == ["A grey dot in the middle of a white field."]


def test_outputs_keep_language_and_direction_and_lose_scripts(built):
    soup = BeautifulSoup((built / "site" / "00_first.html").read_text(encoding="utf-8"), "html.parser")
    assert soup.find("td", lang="ar")["dir"] == "rtl" and "x()" not in str(soup)


def test_the_search_index_has_sections_terms_and_no_solution(built):
    text = (built / "site" / "search-index.js").read_text(encoding="utf-8")
    sections = json.loads(text.removeprefix("const SECTIONS = ").rstrip(";\n"))
    by_title = {s["t"]: s for s in sections}
    assert by_title["Words"]["p"] == "00_first.html#Words" and "It goes on." in by_title["Words"]["x"]
    assert by_title["Token of text"]["p"] == "glossary.html#token-of-text"
    assert "print('a' < 'b')" in sections[0]["x"], "code is found as it is written, although its words have colours"
    assert "the answer" not in text


def test_the_glossary_says_where_a_term_is_used(built):
    soup = BeautifulSoup((built / "site" / "glossary.html").read_text(encoding="utf-8"), "html.parser")
    term = soup.find("dt", id="token-of-text").find_next("dd")
    assert term.code.get_text() == "piece" and term.a["href"] == "00_first.html"
    assert soup.find("dt", id="bpe").find_next("dd").a is None


def test_the_index_says_what_one_will_be_able_to_do(built):
    soup = BeautifulSoup((built / "site" / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert [li.get_text() for li in soup.select(".card")[0].select("li")] == ["find words", "say why"]
    assert "Minutes: 1" in soup.select_one(".needs").get_text()


def test_formulas_become_mathml_and_code_stays(built):
    pytest.importorskip("latex2mathml")
    soup = BeautifulSoup((built / "site" / "00_first.html").read_text(encoding="utf-8"), "html.parser")
    inline, block = soup.select("math")
    assert inline["alttext"] == "x_i \\le 2" and inline.find("msub") and block["display"] == "block"
    assert "$x$" in [c.get_text() for c in soup.select("code")]


@pytest.mark.parametrize("tex", ["\\ln 2L", "-\\log_2 p", "\\log \\frac{a}{b}", "x + \\exp y^2"])
def test_a_function_keeps_its_distance_from_its_argument(tex):
    pytest.importorskip("latex2mathml")
    assert pages.formula(tex, block=False).count("<mspace") == 1
    assert "<mspace" not in pages.formula("\\log(x) + y^{\\log_2} + z_{\\log}", block=False)


@pytest.mark.parametrize("tex", ["\\unknown{x}", "\\frac{1}", "\\left( x"])
def test_a_formula_that_is_not_known_is_shown_as_it_was_written(tex):
    markup = pages.formula(tex, block=False)
    assert markup.startswith("<math") or markup == f'<code class="tex">{tex}</code>'
    assert "<mi>\\" not in markup


def test_without_the_converter_formulas_are_shown_as_tex(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "latex2mathml.converter", None)
    assert pages.formula("a < b", block=False) == '<code class="tex">a &lt; b</code>'


# --- slides -----------------------------------------------------------------------------------------------------------


def test_slides_follow_from_the_chapter(built):
    soup = BeautifulSoup((built / "slides" / "00_first.html").read_text(encoding="utf-8"), "html.parser")
    columns = soup.select(".slides > section")
    assert [c.select_one("h1, h2").get_text() for c in columns] == ["00 · The longest word", "Words", "Summary"]
    words = columns[1].select_one("section")
    told = " ".join(n.extract().get_text() for n in columns[1].select("aside.notes"))
    assert words.select_one("table") and "It goes on." not in words.get_text()
    assert "It goes on." in told and "how many?" in told, "long prose and the instructor's notes are for the speaker"
    assert any("Predict first" in s.get_text() for s in columns[1].select(":scope > section")[1:])
    assert "Exercise 00.1" in columns[1].get_text() and "Hint" not in columns[1].get_text()


def test_slides_bring_reveal_with_them_and_start_it(built):
    text = (built / "slides" / "00_first.html").read_text(encoding="utf-8")
    assert "Reveal.initialize(" in text and "RevealNotes" in text
    assert all((built / "slides" / "reveal.js" / name).is_file() for name in REVEAL)
    assert "00_first.html" in (built / "slides" / "index.html").read_text(encoding="utf-8")


def test_a_cells_own_slideshow_metadata_wins():
    cell = markdown("## Not now", slideshow={"slide_type": "skip"})
    shown = slides.presentation(
        pages.Chapter("00_x", "X", nbformat.v4.new_notebook(cells=[markdown("# 00 · X"), cell]))
    )
    assert [c.metadata["slideshow"]["slide_type"] for c in shown.cells] == ["slide", "skip"]


def test_without_reveal_and_without_a_network_nothing_is_half_built(home, cache, tmp_path):
    import shutil

    shutil.rmtree(cache)
    with pytest.raises(sources.SourceError, match="reveal.js --from"):
        editions.build(tmp_path / "x")
    assert not (tmp_path / "x").exists()
    editions.build(tmp_path / "x", editions=["site", "learner"])


@pytest.mark.parametrize("file", STORED[:1], ids=lambda f: f.stem)
def test_a_stored_chapter_renders_completely(file):
    chapter = pages.read(file)
    soup = pages.soup_of(chapter.notebook, {})
    given = [source.strip() for source in sources_of(chapter.notebook)]
    assert [a.get_text().strip() for a in soup.select(".jp-InputArea-editor pre")] == given
    assert all(len(i.get("alt", "").split()) >= 5 for i in soup.select("img"))
    assert not soup.select("script, link") and website.sections_of(soup, "x.html", "X")


# --- bad input --------------------------------------------------------------------------------------------------------


def test_an_unknown_edition_is_answered_with_the_closest(home):
    done = CliRunner().invoke(cli.main, ["editions", "build", "--only", "lerner"])
    assert done.exit_code == 1 and 'Did you mean "learner"?' in done.output and "Traceback" not in done.output


def test_an_unknown_chapter_is_answered_with_the_chapters(home):
    done = CliRunner().invoke(cli.main, ["editions", "build", "--only", "learner", "7"])
    assert done.exit_code == 1 and "Allowed: 00, 01" in done.output


@pytest.mark.parametrize("first", ["Title without a number", "## 00 · Too deep", ""])
def test_a_notebook_without_a_title_is_named(home, first):
    save(home / "notebooks", "02_third", [markdown(first)] if first else [])
    with pytest.raises(EditionError, match=r"02_third.ipynb has no title.*`# 02 · Title`"):
        editions.build(home / "out", editions=["learner"])


def test_a_file_that_is_no_notebook_is_named(home):
    (home / "notebooks" / "02_third.ipynb").write_text("not JSON", encoding="utf-8")
    with pytest.raises(EditionError, match="02_third.ipynb is not a notebook"):
        editions.build(home / "out", editions=["learner"])


def test_a_folder_that_cannot_be_written_is_named(home):
    (home / "taken").write_text("a file", encoding="utf-8")
    done = CliRunner().invoke(cli.main, ["editions", "build", "--only", "learner", "--out", "taken/here"])
    assert done.exit_code == 1 and "--out DIR" in done.output and "Traceback" not in done.output


def test_a_site_without_a_glossary_says_so(home):
    (home / "docs" / "glossary.md").unlink()
    with pytest.raises(EditionError, match="No glossary"):
        editions.build(home / "out", editions=["site"])


def test_only_what_is_named_is_built(home, tmp_path):
    done = CliRunner().invoke(cli.main, ["editions", "build", "--only", "learner", "--out", str(tmp_path / "o"), "01"])
    assert done.exit_code == 0, done.output
    assert sorted(f.name for f in (tmp_path / "o").rglob("*") if f.is_file()) == ["01_second.ipynb", "glossary.md"]


def test_titles_are_read_as_the_linter_demands():
    assert [pages.read(f).name for f in course.chapters(["00"])][0].startswith("00 · ")
