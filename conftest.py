"""Test settings for notebooks: what nbval compares, and quiet progress bars."""

import os

os.environ.setdefault("XLBOOK_QUIET", "1")
os.environ.setdefault("XLBOOK_PROFILE", "laptop")
# the address of a figure or table differs between processors, and so do bars on standard error
NOT_COMPARED = ("stderr", "text/html", "text/markdown")


def pytest_collectstart(collector):
    """Leave out what differs between machines; image/png is left out by nbval itself."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += NOT_COMPARED
