# `make demo` and `make test` set everything up in .venv, in this folder.
PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test bench cuda-check gpu-check lint types layout wheel clean

.venv/.demo: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("numbatensor needs Python 3.11 to 3.14" if not (3, 11) <= sys.version_info[:2] < (3, 15) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[demo]"
	touch $@

.venv/.stamp: .venv/.demo
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[demo,test,lint,bench]"
	touch $@

demo: .venv/.demo
	$(BIN)/python examples/digits.py

test: .venv/.stamp
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: .venv/.stamp
	$(BIN)/python asv_benchmarks/ratios.py

cuda-check: .venv/.stamp
	$(BIN)/python -m pytest tests/test_emulator.py tests/test_cuda_kernels.py
	$(BIN)/python -m numbatensor.cuda.check

gpu-check: .venv/.stamp
	$(BIN)/python asv_benchmarks/gpu_check.py

lint: .venv/.stamp
	$(BIN)/ruff check .

types: .venv/.stamp
	$(BIN)/mypy

layout:
	@for name in numbatensor kernels_cpu kernels_cuda tests asv_benchmarks setup.cfg; do \
		test -e $$name || { echo "missing: $$name"; exit 1; }; done

wheel: .venv/.stamp
	$(BIN)/pip install --quiet build
	$(BIN)/python -m build

clean:
	rm -rf .venv build dist *.egg-info demo_out
