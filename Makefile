# `make demo` and `make test` set everything up in .venv, in this folder.
SUITABLE = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
BIN = .venv/bin

.PHONY: demo test bench lint types layout check wheel clean

# where the system's Python comes without ensurepip (Debian's python3-venv), its pip installs one
.venv/.stamp: setup.cfg pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(SUITABLE)' || { echo "numbatensor needs Python 3.11 to 3.14: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv || { $(PYTHON) -m venv --clear --without-pip .venv && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[demo,test,lint,bench]"
	touch $@

demo: .venv/.stamp
	$(BIN)/python examples/digits.py

test: .venv/.stamp
	$(BIN)/python -m pytest

bench: .venv/.stamp
	$(BIN)/python -m asv_benchmarks.ratios $(ARGS)

lint: .venv/.stamp
	$(BIN)/ruff check .

types: .venv/.stamp
	$(BIN)/mypy

layout:
	@for name in numbatensor kernels_cpu kernels_cuda tests asv_benchmarks setup.cfg; do \
		test -e $$name || { echo "missing: $$name"; exit 1; }; done

check: layout lint types test

wheel: .venv/.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check build
	$(BIN)/python -m build

clean:
	rm -rf .venv build dist *.egg-info demo_out
