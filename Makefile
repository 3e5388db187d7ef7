# make run · make demo · make test · make check · make bench · make bench-gpu
# make screenshots
# Each works from a bare checkout: it makes .venv and installs the pinned packages.
#
#   PYTHON=python3.12     another interpreter (3.11 or later)
#   VENV=/path            another place for the virtual environment
#   TORCH_INDEX=address   an extra package index for PyTorch, such as its CPU index
#   ARGS="--listen"       options of wgp.py, for make run

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
ARGS ?=

PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip install --disable-pip-version-check --quiet \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
# Two tests at once, each of which computes on one core.
TOGETHER := -n 2 --dist loadfile
READY := $(VENV)/ready
READY_DEV := $(VENV)/ready-dev

.DEFAULT_GOAL := help
.PHONY: help run demo test check bench bench-gpu screenshots lint browser

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

run: $(READY)
	$(PY) wgp.py $(ARGS)

demo: $(READY)
	$(PY) wgp.py --process docs/examples/demo.json --output-dir outputs/demo
	$(PY) -m docs.examples.contact_sheet outputs/demo

lint: $(READY_DEV)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

check: export OMP_NUM_THREADS = 1
check: lint
	$(PY) -m pytest -q -m "not demo and not browser and not gpu" $(TOGETHER)

test: export OMP_NUM_THREADS = 1
test: lint browser
	$(PY) -m pytest -q -m "not gpu" $(TOGETHER)

bench: $(READY_DEV) browser
	for file in bench/cpu_*.py; do $(PY) -m bench.$$(basename $$file .py) || exit 1; done
	$(PY) -m tests.browser.click_to_video

bench-gpu: $(READY_DEV)
	for file in bench/gpu_*.py; do $(PY) -m bench.$$(basename $$file .py) || exit 1; done

screenshots: $(READY_DEV) browser
	$(PY) -m tests.browser.screenshots

browser: $(READY_DEV)
	@.ci/browser $(PY)

$(VENV)/made:
	@.ci/python $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(READY): $(VENV)/made requirements.txt
	@echo "Installing requirements.txt into $(VENV) (a few minutes the first time)"
	$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(READY_DEV): $(READY) requirements-dev.txt
	@echo "Installing requirements-dev.txt into $(VENV)"
	$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@
