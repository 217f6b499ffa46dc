"""Test settings for notebooks: no network, what nbval compares, and quiet progress bars.

The kernels of the notebooks inherit these variables. So a run with nbval proves that the chapters need nothing but the
fetched sources: every way to download ends at a port where nobody listens. Traffic on this machine itself still works,
because kernels talk through it. The ``gpu`` profile takes models from the Hub and is left alone.
"""

import os

NOBODY = "http://127.0.0.1:9"  # the discard port
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY")
PIP = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"{NOBODY}/simple/", "PIP_PROXY": NOBODY, "PIP_RETRIES": "0"}
NO_NETWORK = {name: NOBODY for proxy in PROXIES for name in (proxy, proxy.lower())}
NO_NETWORK |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost,::1")
NO_NETWORK |= PIP | dict.fromkeys(("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "XLBOOK_WHEELS"), "")
NO_NETWORK |= {"HF_ENDPOINT": NOBODY, "HF_HUB_OFFLINE": "1"}
# the address of a figure or table differs between processors, and so do bars on standard error
NOT_COMPARED = ("stderr", "text/html", "text/markdown")

os.environ.setdefault("XLBOOK_QUIET", "1")
os.environ.setdefault("XLBOOK_PROFILE", "laptop")
if os.environ["XLBOOK_PROFILE"] != "gpu":
    os.environ.update(NO_NETWORK)


def pytest_collectstart(collector):
    """Leave out what differs between machines; image/png is left out by nbval itself."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += NOT_COMPARED
