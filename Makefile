# make demo   a simulated practice from export to page, ending in a URL
# make test   the whole suite
# Both install everything they need, uv included, into this folder.

UV_ENV := .uv
UV ?= $(shell command -v uv 2>/dev/null || echo $(UV_ENV)/bin/uv)
PYTHON ?= python3
RUN := $(UV) run --frozen --all-extras
RUN_DEMO := $(UV) run --frozen --extra training --extra serving --no-default-groups

.PHONY: install demo test lint types check format clean

install: .venv/.installed

$(UV_ENV)/bin/uv:
	$(PYTHON) -m venv $(UV_ENV)
	$(UV_ENV)/bin/pip install --quiet --disable-pip-version-check uv

.venv/.installed: pyproject.toml uv.lock | $(filter $(UV_ENV)/bin/uv,$(UV))
	$(UV) sync --frozen --all-extras --quiet
	@touch $@

demo: $(filter $(UV_ENV)/bin/uv,$(UV))
	$(RUN_DEMO) revisit demo $(DEMO)

test: install
	$(RUN) pytest -n auto --dist loadfile --no-loadscope-reorder $(TESTS)

lint: install
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) lint-imports

types: install
	$(RUN) mypy

check: lint types test

format: install
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

clean:
	rm -rf .venv $(UV_ENV) dist .mypy_cache .pytest_cache .ruff_cache
