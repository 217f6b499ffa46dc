"""``show`` prints the real source: comments stay, docstrings go, the rest runs as before."""

import functools
import textwrap

import pytest

from xlbook import show as module
from xlbook.languages import label
from xlbook.show import Source, show, without_docstrings


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@decorated
def example(x: int) -> int:
    """Add one.

    Args:
        x: a number.
    """

    # the idea
    y = x + 1  # one more

    return y


class Shape:
    """A shape."""

    sides = 3

    def area(self):
        """Return the area."""
        return 1

    def only_documented(self):
        """Nothing else stands here."""


def test_docstrings_go_and_comments_stay():
    assert show(example) == textwrap.dedent(
        """\
        @decorated
        def example(x: int) -> int:
            # the idea
            y = x + 1  # one more

            return y"""
    )


def test_docstrings_can_be_kept():
    kept = show(example, docstring=True)
    assert '"""Add one.' in kept and "Args:" in kept and "# the idea" in kept


def test_a_class_loses_its_own_and_its_methods_docstrings():
    text = show(Shape)
    assert "A shape" not in text and "Return the area" not in text
    assert "sides = 3" in text and "return 1" in text
    assert "Nothing else stands here" in text  # without it the method had no body


def test_a_method_is_shown_without_its_indentation():
    assert show(Shape.area).splitlines() == ["def area(self):", "    return 1"]


@pytest.mark.parametrize(
    "source",
    [
        'def f(): "doc"; return 1\n',
        'def f():\n    "doc"; return 1\n',
        'def f():\n    """doc\n\n    more"""\n    return 1\n',
        'def f(\n    x=1,\n):\n    """doc"""\n\n\n    return x\n',
        'class F:\n    """doc"""\n\n    def g(self):\n        """doc"""\n        # kept\n        return """text"""\n',
        'async def f():\n    """doc"""\n    return 1\n',
        'def f():\n    """doc"""\n\n    @staticmethod\n    def g():\n        return 1\n    return g\n',
        'def f():\n    x = """no docstring"""\n    return x\n',
        'def größe():\n    """Größe"""\n    return "ü"\n',
    ],
)
def test_the_code_that_is_left_is_the_same_code(source):
    import ast

    def code_only(text: str) -> str:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
                node.body = node.body[1:]
        return ast.dump(tree)

    stripped = without_docstrings(source)
    assert code_only(stripped) == code_only(source)
    if ";" not in source:
        assert "doc\n" not in stripped and '"""doc"""' not in stripped


def test_source_is_text_and_colours(capsys):
    source = show(label)
    assert isinstance(source, Source) and repr(source) == str(source) and source.startswith("def label(code: str)")
    html = source._repr_html_()
    assert "<span" in html and "label" in html and "<script" not in html


def test_html_is_escaped():
    assert "<b>" not in Source('x = "<b>"')._repr_html_() and "&lt;b&gt;" in Source('x = "<b>"')._repr_html_()


TABLE = {
    "double": lambda x: 2 * x,
}


def made_elsewhere():
    """Return a function whose source is in no file."""
    names = {}
    exec("def f(x):\n    return x", names)
    return names["f"]


@pytest.mark.parametrize(
    "thing", [len, int, 3, "label", None, print, functools.partial(label), TABLE["double"], made_elsewhere()]
)
def test_what_has_no_python_source_is_refused(thing):
    with pytest.raises(TypeError, match="has no Python source; give a function or class"):
        show(thing)


def test_show_can_show_itself():
    assert module.show(show).startswith("def show(function")
