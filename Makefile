# make course          run every chapter, write build/course/ (CH=06 runs one)
# make test            ruff, unit tests, notebook lint, every notebook under nbval
# make test-all        the same, and the next three: this is what CI runs
# make test-gpu-profile  every notebook in the gpu profile, at toy size, against a Hub on this machine
# make test-browser    JupyterLab and the pages in Chromium (Debian: apt-get install chromium chromium-driver)
# make test-colab      every notebook as in Colab: a fresh environment, and nothing but the notebook (downloads several GB)
# make lab             open JupyterLab on chapter 00
# make editions        learner, solution, instructor, slides and site, into build/editions/ (docs/workshop.md)
# make test-unit, make test-notebook CH=06      for daily work
#
# PYTHON=python3.12    another interpreter (3.11 to 3.13)
# TORCH_INDEX=URL      where torch comes from, e.g. https://download.pytorch.org/whl/cpu for the small CPU build on Linux

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FILES = $(if $(CH),$(wildcard notebooks/$(CH)_*.ipynb),notebooks)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: course test test-all test-unit test-gpu-profile test-browser test-notebook test-colab lint lab editions fetch setup clean

course: fetch
	$(BIN)/xlbook run $(CH)

test: lint test-unit test-notebook

test-all: test test-gpu-profile test-browser test-colab

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test-unit: fetch
	$(BIN)/xlbook fetch reveal.js
	$(BIN)/python -m pytest tests --doctest-modules xlbook -m "not colab and not browser and not gpu_profile"

test-gpu-profile: fetch
	$(BIN)/python -m pytest tests -m gpu_profile

test-browser: fetch
	$(BIN)/xlbook fetch reveal.js
	$(BIN)/python tests/browser.py
	XLBOOK_BROWSER=1 $(BIN)/python -m pytest tests -m browser

test-colab: fetch
	TORCH_INDEX=$(TORCH_INDEX) $(BIN)/python -m pytest -m colab -s tests/test_colab.py

test-notebook: fetch
	@test -n "$(FILES)" || { echo "No notebook for CH=$(CH); there are: $$(ls notebooks)"; exit 2; }
	$(BIN)/python -m pytest --nbval --nbval-current-env $(FILES)

lab: fetch
	$(BIN)/jupyter lab notebooks/00_setup.ipynb

editions: setup
	$(BIN)/xlbook editions build $(CH)

fetch: setup
	$(BIN)/xlbook fetch

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 was not found. Install one, or say: make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install -c constraints.txt -e ".[lab,test]"
	touch $(STAMP)

clean:
	rm -rf build $(VENV)
