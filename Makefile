# `make demo` and `make test` set the environment up themselves; nothing else is needed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo check test test-all lint type docs docs-serve bench ui clean

# One stamp for each set of packages: the demo does not wait for the test tools.
$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt --editable ".[embed]"
	touch $@

$(VENV)/.dev: $(VENV)/.run tests/templates.txt
	$(PIP) install --quiet --constraint constraints.txt --editable ".[embed,dev,docs]"
	$(PIP) install --quiet --no-deps --requirement tests/templates.txt
	touch $@

demo: $(VENV)/.run ## select, fine-tune, compare with random and zero-shot; ends with a page of pictures
	$(BIN)/tis-ray run --config examples/quickstart.yaml

# Two processes share the tests, and each that needs Ray has a cluster of its own; slow tests, which
# kill processes and measure memory, have the machine to themselves.
check: $(VENV)/.dev lint type docs ## the inner loop: all that needs no Ray cluster, in some 3 minutes
	$(BIN)/python -m pytest -m "not ray and not slow" -n 2 --dist worksteal

test: check ## what must hold, in some 12 minutes
	$(BIN)/python -m pytest -m "ray and not slow" -n 2 --dist worksteal

test-all: test ## the slow tests too: kills and restarts, jobs on a cluster, several workers, a browser, the built package; every case of a property
	$(BIN)/python -m pytest -m "slow or hypothesis" --hypothesis-profile all

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: $(VENV)/.dev
	$(BIN)/mypy tis_ray

# Without the banner in which the theme advertises its successor.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/.dev ## the documentation site, in site/; a warning or a broken link ends it
	$(BIN)/python -m mkdocs build --strict --quiet

docs-serve: export NO_MKDOCS_2_WARNING = 1
docs-serve: $(VENV)/.dev ## the site at http://127.0.0.1:8000, built anew at each change
	$(BIN)/python -m mkdocs serve --livereload

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) install --quiet --constraint constraints.txt --editable ".[embed,dev,docs,smollm2,bench]"
	touch $@

bench: $(VENV)/.bench ## ratios against named peers; WHICH="a c" picks some, WHICH=-h lists them
	$(BIN)/python -m benchmarks $(WHICH)

ui: $(VENV)/.run ## MLflow's page over the local runs
	$(BIN)/mlflow ui --backend-store-uri sqlite:///$(CURDIR)/runs/mlflow.db

clean: ## remove what runs made; keeps the environment
	rm -rf runs artifacts site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
