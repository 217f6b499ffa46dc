"""Running chapters: results, claims, errors, HTML with alt text, index."""

import nbformat
import pytest

from xlbook import course


def notebook(*sources):
    cells = [nbformat.v4.new_markdown_cell("# 99 · Test"), *[nbformat.v4.new_code_cell(s) for s in sources]]
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "p"}})


@pytest.fixture
def chapter(tmp_path):
    def write(*sources):
        file = tmp_path / "99_test.ipynb"
        nbformat.write(notebook(*sources), file)
        return file

    return write


def test_a_chapter_is_run_counted_and_written(chapter, tmp_path, capfd):
    picture = (
        "from xlbook import figures\n"
        "figures.picture(lambda ax: ax.plot([1, 2]), 'A straight line that rises from one to two.')"
    )
    claims = "from xlbook.claims import claim\nclaim('One is less than two.', 1 < 2)\nclaim('So it is.', True)"
    result = course.run_chapter(chapter(claims, picture), tmp_path / "out")
    assert "WARNING" not in capfd.readouterr().err, "a learner would read it as a problem"
    assert (result.claims, result.error) == (2, "") and result.peak_gb > 0.02
    page = (tmp_path / "out" / "99_test.html").read_text(encoding="utf-8")
    assert 'alt="A straight line that rises from one to two."' in page
    assert "Claim holds" in str(nbformat.read(tmp_path / "out" / "99_test.ipynb", as_version=4))


def test_a_page_needs_no_network():
    page = notebook("1 + 1")
    page.cells.append(
        nbformat.v4.new_markdown_cell("The root is $\\sqrt{d}$; a price of `$5` is no formula, nor is $5.")
    )
    page = course.to_html(page, "test")
    assert "<math" in page and "\\sqrt" not in page.replace('alttext="\\sqrt{d}"', "") and "<code>$5</code>" in page
    assert page.count("<script") == page.count("<script>") == 1 and "cdnjs" not in page
    assert "XMLHttpRequest" not in page and "fetch(" not in page and '<link href="http' not in page


def test_a_page_folds_its_solutions_and_takes_no_picture_from_elsewhere():
    from bs4 import BeautifulSoup

    page = notebook("x = 1", "secret = 2")
    page.cells[0].source += "\n\n[![Run it](https://example.org/badge.svg)](https://example.org)"
    page.cells[2].metadata["tags"] = ["solution"]
    soup = BeautifulSoup(course.to_html(page, "test"), "html.parser")
    (folded,) = soup.select("details.solution")
    assert "secret" in folded.get_text() and not folded.has_attr("open") and folded.summary.get_text() == "Solution"
    assert soup.get_text().count("secret") == 1 and "x = 1" not in folded.get_text()
    assert soup.select("img") == [] and soup.find("a", href="https://example.org").get_text() == "Run it"
    assert not soup.select(".jp-Cell-inputWrapper[tabindex]"), "the Tab key stops at every cell"


def test_a_chapter_that_fails_is_written_with_its_error(chapter, tmp_path):
    result = course.run_chapter(chapter("print('so far')", "1 / 0", "print('never')"), tmp_path / "out")
    assert "ZeroDivisionError" in result.error
    page = (tmp_path / "out" / "99_test.html").read_text(encoding="utf-8")
    assert "so far" in page and "ZeroDivisionError" in page


def test_the_index_links_the_chapters_and_shows_errors(tmp_path, cache):
    results = [course.Result("00_setup", 1.0, 1.5, 7), course.Result("01_x", 2.0, 1.0, 0, "ValueError: no")]
    page = course.write_index(results, tmp_path).read_text(encoding="utf-8")
    assert 'href="00_setup.html"' in page and "ValueError: no" in page
    assert "ValueError: no" in course.text_table(results)


def test_chapters_are_found_by_number_and_by_stem():
    assert [f.stem for f in course.chapters(["6", "00"])] == ["00_setup", "06_finetuning"]
    assert course.chapters(["06_finetuning"]) == course.chapters(["06"])
    with pytest.raises(ValueError, match="Allowed"):
        course.chapters(["77"])


def test_the_card_is_drawn_with_a_dot_for_each_language(tmp_path, cache):
    from xlbook import reportcard
    from xlbook.languages import COURSE

    with pytest.raises(ValueError, match="chapter 00"):
        course.card_picture()
    scores = {c: i / 10 for i, c in enumerate(COURSE)}
    reportcard.add("00", "nearest example", scores)
    (line,) = course.card_picture().figure.axes[0].lines
    assert list(line.get_ydata()) == [scores[c] for c in COURSE]
    course.write_index([course.Result("00_setup", 1.0, 1.5, 7)], tmp_path)
    assert (tmp_path / "report_card.png").stat().st_size > 5000
