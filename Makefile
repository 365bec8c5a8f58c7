# Two commands do everything, each sets up what it needs:
#   make demo   count the words of every text in data/ through RabbitMQ
#   make test   all checks and tests, against a real RabbitMQ (WORKERS=1 PYTEST_ARGS=tests/broker/test_tls.py)
# and: make check (format, lint, types, layers), make bench (against peers; BENCH_ARGS=--quick), make faults (break
# things and count what becomes of every message; FAULTS_ARGS="--row 1 --repeat 20"), make audit (known
# vulnerabilities of what is installed; asks the network), make stop (the private RabbitMQ node), make clean

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
BIN := .venv/bin
# Tests side by side: most wait most of their time, so more than there are cores
WORKERS ?= 8
# They start hundreds of Pythons, which compile everything each time where they may not keep it beside the source
COMPILED := env -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX=$(CURDIR)/.venv/compiled

.PHONY: demo test check bench faults format audit stop clean

demo: .venv/installed
	@$(BIN)/leveret demo

test: check
	$(COMPILED) $(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_layers.py

bench: .venv/installed
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

faults: .venv/installed-dev
	@$(BIN)/python -m tests.faults $(FAULTS_ARGS)

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# In an environment of its own, and never a part of make test, which needs no network beyond the installation
audit: .venv/bin/pip
	@test -x .venv-audit/bin/pip-audit || { $(BIN)/python -m venv .venv-audit && \
		.venv-audit/bin/pip install --quiet --disable-pip-version-check pip-audit; }
	.venv-audit/bin/pip-audit --strict .

stop: .venv/installed
	@$(BIN)/leveret node stop

clean:
	@test ! -x $(BIN)/leveret || $(BIN)/leveret node stop || true
	rm -rf .venv .venv-bench .venv-audit .rabbitmq output *.egg-info .mypy_cache .pytest_cache .ruff_cache

# Debian keeps venv's installer in a package of its own
.venv/bin/pip:
	@test -n "$(PYTHON)" || { echo "leveret needs Python 3.11 or newer as python3; install it, or say make PYTHON=…" >&2; exit 1; }
	@echo "making .venv with $(PYTHON) …"
	@rm -rf .venv
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "installing python3-venv with apt-get …"; \
			said=$$( { apt-get update && DEBIAN_FRONTEND=noninteractive \
				apt-get install -y --no-install-recommends python3-venv; } 2>&1) || echo "$$said" >&2; \
		fi; \
		$(PYTHON) -m venv --clear .venv || { echo "cannot make .venv: install python3-venv, then run make again" >&2; exit 1; }; }

.venv/installed: .venv/bin/pip pyproject.toml
	@echo "installing leveret and what it needs into .venv …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/installed-dev: .venv/installed pyproject.toml
	@echo "installing the tools for development into .venv …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
