"""``python -m xlbook``: the same as the ``xlbook`` command."""

from xlbook.cli import main

main()
