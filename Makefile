# The two commands to begin with are `make demo` and `make test`; each sets up what it needs by itself.

# Any Python >= 3.11: the first of these that is one. Or name it: make test PYTHON=/path/to/python
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SEEDS ?= 50000
REPEAT ?=
SECONDS ?= 60
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint types docs bench conformance sim interop lab lab-ci interop-deps fuzz clean distclean

help:  ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## Connect two processes and send a file; options: make demo ARGS="--transport tcp --size 64M"
	@$(BIN)/ice-tcp demo $(ARGS)

test: $(READY)  ## Run all tests, with coverage; a part of them: make test ARGS="tests/test_sdp.py"
	@rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report $(if $(ARGS),--fail-under=0)

lint: $(READY)  ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## Check types, strictly
	$(BIN)/mypy

docs: $(READY)  ## Build the documents, into build/docs; warnings are errors
	$(BIN)/python -m interop.policy_reference > docs/policy.md
	$(BIN)/python -m interop.diagrams
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs build/docs
	@echo build/docs/index.html

bench: $(READY)  ## Measure against aioice and a bare asyncio protocol; fails below the floors
	$(BIN)/python -m interop.bench --json bench.json $(ARGS)

conformance: $(READY)  ## Test our agent, its drop-in and aioice against the RFCs; in real time: make conformance ARGS=--slow
	@$(BIN)/ice-tcp conformance --target ice-tcp --target ice-tcp-aioice --target aioice \
		--require ice-tcp --require ice-tcp-aioice $(ARGS)

sim: $(READY)  ## Run the simulator over many seeds: make sim SEEDS=50000
	$(BIN)/python -m tests.sim --seeds $(SEEDS) $(ARGS)

interop: $(READY)  ## Try other implementations: tests, and a table of peers (needs root); first: make interop-deps
	$(BIN)/python -m pytest -m interop $(ARGS)
	@$(if $(ARGS),,$(BIN)/python -m interop peers)

lab: $(READY)  ## Connect agents through every pair of kernel NATs (needs root): make lab REPEAT=10
	@$(BIN)/python -m interop lab $(if $(REPEAT),--repeat $(REPEAT)) $(ARGS)

lab-ci: $(READY)  ## Test the NAT lab itself (needs root)
	$(BIN)/python -m pytest -m natlab $(ARGS)

interop-deps: $(READY)  ## Install the other implementations, and what the NAT lab needs (Debian, npm, PyPI; needs root)
	@missing=; for each in turnserver:coturn nft:nftables ip:iproute2 conntrack:conntrack openssl:openssl \
		chromium:chromium chromedriver:chromium-driver firefox-esr:firefox-esr node:nodejs npm:npm patch:patch redis-server:redis-server; do \
		command -v $${each%%:*} >/dev/null || missing="$$missing $${each##*:}"; done; \
	ls /usr/lib/*/girepository-1.0/Nice-*.typelib >/dev/null 2>&1 && /usr/bin/python3 -c 'import gi' 2>/dev/null || \
		missing="$$missing gir1.2-nice-0.1 python3-gi"; \
	[ -z "$$missing" ] || { apt-get update && apt-get install -y --no-install-recommends $$missing; }
	@[ -d interop/peers/node_modules ] || npm install --prefix interop/peers --no-package-lock --no-audit --no-fund
	@[ -d interop/peers/sources ] || $(BIN)/pip download --quiet --disable-pip-version-check --dest interop/peers/sources \
		--no-deps --no-build-isolation --no-binary aioice,aiortc 'aioice>=0.13,<0.14' 'aiortc>=1.16,<1.17'

fuzz: $(READY)  ## Search for input that breaks a parser, each for so long: make fuzz SECONDS=60
	@set -e; for entry in tests/fuzz/fuzz_*.py; do \
		echo "$$entry"; $(BIN)/python -m tests.fuzz.$$(basename $$entry .py) --seconds $(SECONDS); done

clean:  ## Remove what tools and builds left
	rm -rf build dist *.egg-info bench.json .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find candidates ice_tcp interop tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## Remove the virtual environment, too
	rm -rf $(VENV)

$(READY): pyproject.toml
ifeq ($(strip $(PYTHON)),)
	$(error ice-tcp needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python)
endif
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
