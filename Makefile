# Two commands do everything: `make book` and `make test`. `make help` lists the rest.
# Needed on the machine: Python 3.11 or newer, git, make. All else comes from the package index.

PYTHON ?= python3
PORT ?= 8000

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
REPORTS := _build/reports

# quick: the embedded phantom on a laptop; full: the recipe of the series on a GPU.
export SCXR_MODE ?= quick
# The book and the notebook tests execute the same chapters: they share pretraining runs here.
export SCXR_CACHE ?= $(CURDIR)/.scxr
export TQDM_DISABLE := 1
export PYTHONUNBUFFERED := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup book test lint types unit nbval browser pages notebooks run-times serve format lock clean distclean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(INSTALLED) ## make .venv and install what requirements.lock pins

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "scxr needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

book: $(INSTALLED) ## build the executed book into _build/html
	@$(BIN)/python scripts/forget_stale.py
	$(BIN)/jupyter-book build . --warningiserror --keep-going
	@echo "The book: file://$(CURDIR)/_build/html/index.html"

test: $(INSTALLED) browser lint types unit book nbval pages ## everything: checks, tests, the book, its pages in a browser
	@$(BIN)/python scripts/left_out.py $(REPORTS)

lint: $(INSTALLED) ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## mypy
	$(BIN)/mypy

unit: $(INSTALLED) ## tests of the package and of the sources of the book
	OMP_NUM_THREADS=1 $(BIN)/pytest tests --ignore tests/book/site -n 2 --dist loadscope \
	  --junitxml $(REPORTS)/unit.xml

nbval: $(INSTALLED) ## execute the chapters' notebooks and compare their outputs
	$(BIN)/pytest chapters --nbval --nbval-current-env --nbval-cell-timeout 600 \
	  --nbval-sanitize-with tests/book/nbval.cfg --junitxml $(REPORTS)/nbval.xml

browser: ## find a Chromium, or fetch it from the system's packages where that is allowed
	@sh scripts/get_browser.sh

pages: $(INSTALLED) browser ## tests of the built pages in Chromium; screenshots in _build/screenshots
	$(BIN)/pytest tests/book/site --junitxml $(REPORTS)/pages.xml

notebooks: $(INSTALLED) ## execute chapters/*.py (or CHAPTERS="...") into the notebooks beside them
	$(BIN)/python scripts/notebooks.py $(CHAPTERS)

run-times: $(INSTALLED) ## time each chapter with an empty cache (book/run-times.csv)
	$(BIN)/python scripts/run_times.py

serve: ## read the built book at http://localhost:8000 (or PORT=...)
	$(PYTHON) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

format: $(INSTALLED) ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## pin what pyproject.toml asks for, as installed here, in requirements.lock
	$(BIN)/python scripts/lock.py

clean: ## remove what was built; keep the environment and the pretraining runs
	rm -rf _build

distclean: clean ## remove the environment and the pretraining runs as well
	rm -rf $(VENV) .scxr chapters/.scxr *.egg-info
