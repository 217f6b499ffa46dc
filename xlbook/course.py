"""Run the chapters from the command line: execute every notebook, measure it, write it as ``.ipynb`` and HTML.

Each notebook runs in a fresh kernel in the active profile. The result is a folder that can be read without Jupyter,
and a table: minutes, peak memory, claims held.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import nbformat

from xlbook.claims import MARK
from xlbook.runtime import did_you_mean, hushed, progress

WIDGET = "application/vnd.jupyter.widget-view+json"
CELL_SECONDS = 1800
"""A cell that runs longer than this has hung."""
QUIET_KERNEL = ("--log-level=ERROR",)
"""For a kernel on this machine: its warning about connections without encryption would look like a problem."""


@dataclass(frozen=True)
class Result:
    """What came of one chapter."""

    stem: str
    """File name without ending, such as ``01_tokenization``."""
    minutes: float
    """Wall-clock minutes."""
    peak_gb: float
    """Largest resident memory of kernel and children, in 10^9 bytes."""
    claims: int
    """Number of claims that held."""
    error: str = ""
    """Empty, or the error that stopped the chapter."""


def notebooks_folder() -> Path:
    """Return the folder with the chapters: ``notebooks`` here or beside the package.

    Raises:
        FileNotFoundError: if there is none.
    """
    for folder in (Path.cwd() / "notebooks", Path.cwd(), Path(__file__).resolve().parents[1] / "notebooks"):
        if any(folder.glob("[0-9][0-9]_*.ipynb")):
            return folder
    raise FileNotFoundError("No notebooks here. Run this in the folder of the course, where `notebooks/` lies.")


def chapters(wanted: Sequence[str] = ()) -> list[Path]:
    """Return the notebook files of some chapters, in order; of all chapters if none is named.

    Args:
        wanted: numbers (``06``, ``6``) or stems (``06_finetuning``).

    Raises:
        ValueError: for a chapter that does not exist.
    """
    found = {f.stem: f for f in sorted(notebooks_folder().glob("[0-9][0-9]_*.ipynb"))}
    by_number = {stem[:2]: file for stem, file in found.items()}
    if not wanted:
        return list(found.values())
    chosen = []
    for name in wanted:
        file = found.get(name) or by_number.get(name.zfill(2))
        if file is None:
            raise ValueError(f"No chapter {name!r}. {did_you_mean(name, sorted(by_number))}")
        chosen.append(file)
    return sorted(set(chosen))


class PeakMemory:
    """Watches the memory of this process's children until it is stopped (the notebook's kernel is one of them)."""

    def __init__(self) -> None:
        self.peak, self.done = 0, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self) -> None:
        """Record the largest sum of resident memory, five times a second."""
        import psutil

        me = psutil.Process()
        while not self.done.wait(0.2):
            used = 0
            for child in me.children(recursive=True):
                try:
                    used += child.memory_info().rss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, used)

    def __enter__(self) -> PeakMemory:
        self.thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self.done.set()
        self.thread.join()


def run_chapter(file: Path, out: Path) -> Result:
    """Execute one notebook and write it as ``.ipynb`` and HTML.

    A chapter that fails is written too, as far as it came, with its error in the result.

    Args:
        file: the notebook.
        out: folder for the results.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.read(file, as_version=4)
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    bar = iter(progress(cells, label=file.stem, unit="cell"))
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        extra_arguments=list(QUIET_KERNEL),
        resources={"metadata": {"path": str(file.parent)}},
        on_cell_executed=lambda **_: next(bar, None),
    )
    started, error = time.perf_counter(), ""
    with hushed(), PeakMemory() as memory:
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as failure:
            error = str(failure).strip().splitlines()[-1]
    minutes = (time.perf_counter() - started) / 60
    tidy(notebook)
    out.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, out / file.name)
    (out / f"{file.stem}.html").write_text(to_html(notebook, file.stem, page_links()), encoding="utf-8")
    return Result(file.stem, minutes, memory.peak / 1e9, count_claims(notebook), error)


def tidy(notebook) -> None:
    """Drop what differs from run to run and says nothing to a reader: standard error, dead widgets, execution times."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr" and WIDGET not in o.get("data", {})]


def count_claims(notebook) -> int:
    """Return how many claims a notebook's outputs report."""
    texts = [o.get("text", "") for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    return sum(line.startswith(MARK) for text in texts for line in "".join(text).splitlines())


def glossary_file() -> Path:
    """Return the glossary beside the notebooks; it may be missing."""
    return notebooks_folder().parent / "docs" / "glossary.md"


def page_links() -> dict[str, str]:
    """Return what a chapter's links to chapters and glossary become among the pages of one folder."""
    links = {file.name: f"{file.stem}.html" for file in chapters()}
    return links | ({"../docs/glossary.md": "glossary.html"} if glossary_file().exists() else {})


def to_html(notebook, title: str, links: Mapping[str, str] = MappingProxyType({})) -> str:
    """Render a notebook as one HTML page that needs no network.

    Figures have alt text, formulas are MathML, solutions are folded. The only script lets the keyboard scroll.

    Args:
        notebook: the notebook.
        title: title of the page.
        links: beginning of a relative link -> what stands there instead.
    """
    from bs4 import BeautifulSoup
    from nbconvert import HTMLExporter

    from xlbook import pages

    exporter = HTMLExporter(template_name="lab", exclude_input_prompt=True, exclude_output_prompt=True)
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    soup = BeautifulSoup(page, "html.parser")
    pages.describe(soup, notebook)
    pages.fold_solutions(soup)
    for link in soup.select("a[href]"):
        link["href"] = pages.redirected(link["href"], links)
    for script in soup.select("script"):  # they load MathJax, RequireJS and Mermaid from other machines
        script.decompose()
    style = soup.new_tag("style")
    style.string = pages.asset("page.css") + pages.code_colours()
    soup.head.append(style)
    reach = soup.new_tag("script")
    reach.string = pages.asset("reach.js")
    soup.body.append(reach)
    return str(soup)


def write_index(results: Sequence[Result], out: Path) -> Path:
    """Write an index page that links the chapters and shows the table and the report card; return its file.

    The glossary that the chapters link to is written beside it.
    """
    from xlbook import reportcard
    from xlbook.figures import Markup, table

    lines = [
        {
            "chapter": Markup(f'<a href="{r.stem}.html">{r.stem}</a>'),
            "minutes": r.minutes,
            "peak memory (GB)": r.peak_gb,
            "claims held": r.claims,
            "result": r.error or "ran to the end",
        }
        for r in results
    ]
    card = reportcard.show().markup if reportcard.rows() else ""
    if any(row["profile"] != "smoke" for row in reportcard.rows()):
        card_picture().figure.savefig(out / "report_card.png", bbox_inches="tight", facecolor="white")
    body = (
        f"<h1>xlbook</h1><p>The chapters as they ran on this machine.</p>"
        f"{table(lines, 'Chapters').markup}<h2>Report card</h2>{card}"
    )
    if glossary_file().exists():
        from xlbook import website

        terms = website.glossary_body(website.glossary_terms(glossary_file()), {}, ())
        (out / "glossary.html").write_text(plain_page("Glossary", terms), encoding="utf-8")
    file = out / "index.html"
    file.write_text(plain_page("xlbook", body), encoding="utf-8")
    return file


def plain_page(title: str, body: str) -> str:
    """Return a whole HTML page."""
    style = "body{font:16px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#1b2a41}"
    style += "a{color:#1b5f96}dt{font-weight:700;margin-top:1em}dd{margin:0}dt:target{background:#ffe08a}"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    head += f"<style>{style}</style>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body><main>{body}</main></body></html>'


def card_picture():
    """Return the report card as a picture: one line of dots a method, one column a language.

    Raises:
        ValueError: if the report card is empty.
    """
    from xlbook import figures, reportcard
    from xlbook.languages import COURSE

    rows = [row for row in reportcard.rows() if row["profile"] != "smoke"]
    if not rows:
        raise ValueError("The report card is empty; run chapter 00 first.")

    def draw(ax) -> None:
        for row in rows:
            ax.plot(COURSE, [row["scores"][c] for c in COURSE], "o-", label=f"{row['chapter']} {row['method']}")
        ax.set(title="The assistant, taught in English only", ylabel="intents understood (share)", ylim=(0, 1))
        ax.set_xticks(range(len(COURSE)), [name.replace(" ", "\n") for name in figures.names(COURSE)], fontsize=8)
        ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))

    alt = "Accuracy in ten languages for each method of the report card; fine-tuning is above the baselines everywhere."
    return figures.picture(draw, alt, size=(10, 4))


def text_table(results: Sequence[Result]) -> str:
    """Return the closing table for the terminal."""
    lines = [f"{'chapter':<22}{'minutes':>9}{'peak GB':>9}{'claims':>8}  result"]
    for r in results:
        outcome = r.error or "ran to the end"
        lines.append(f"{r.stem:<22}{r.minutes:>9.1f}{r.peak_gb:>9.2f}{r.claims:>8}  {outcome}")
    return "\n".join(lines)


def text_card() -> str:
    """Return the report card for the terminal."""
    from xlbook import reportcard
    from xlbook.languages import COURSE

    lines = [f"{'':3} {'method':<46}" + "".join(f"{c:>6}" for c in (*COURSE, "avg9", "worst"))]
    for row in reportcard.rows():
        method = row["method"] + ("" if row["profile"] == "laptop" else f" ({row['profile']})")
        summary = reportcard.summary(row["scores"])
        scores = [*(row["scores"][c] for c in COURSE), summary["others"], summary["worst"]]
        lines.append(f"{row['chapter']:3} {method[:45]:<46}" + "".join(f"{s:>6.2f}" for s in scores))
    return "\n".join(lines)
