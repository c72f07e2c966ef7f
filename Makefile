# Short targets; everything they need is installed into .venv by the targets themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS ?=
# Tests that wait for sockets and processes more than they compute: one more at a time than there are cores.
WIRE := tests/wire tests/faults tests/fuzz tests/process tests/crash tests/scale
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

.DEFAULT_GOAL := help
.PHONY: help run demo check format test test-system fuzz crash mutants bench-core bench-forward bench-https bench-leaves bench-memory bench-store bench-backlog isolation errors classes descriptions pictures page-pictures monitoring test-image lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# Each stamp is a group of dependencies that is installed; it is made anew when pyproject.toml changes.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[intercept,terminal]'
	@touch $@

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[terminal]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[intercept,terminal]' --group check --group test
	@touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(PIP) install --editable . --group bench
	@touch $@

$(VENV)/.isolation: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[intercept]' --group isolation
	@touch $@

$(VENV)/.monitoring: pyproject.toml | $(BIN)/python
	$(PIP) install --editable . --group monitoring
	@touch $@

$(VENV)/.system: pyproject.toml | $(BIN)/python
	$(PIP) install --editable . --group system
	@touch $@

$(VENV)/.lock: pyproject.toml | $(BIN)/python
	$(PIP) install --group lock
	@touch $@

run: $(VENV)/.run ## start the proxy with config.example.yaml (ARGS="--egress any" for more options)
	@$(BIN)/breaker-proxy run --config config.example.yaml $(ARGS)

demo: $(VENV)/.demo ## watch three upstreams, healthy, flapping and dead, in the terminal
	@$(BIN)/breaker-proxy demo $(ARGS)

check: $(VENV)/.dev ## lint and type-check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(VENV)/.dev ## all tests that need only Python, with 100 % branch coverage of the core by its own tests
	$(BIN)/coverage run -m pytest tests/core $(ARGS)
	$(BIN)/coverage report --include='proxy/core/*' --fail-under=100 --show-missing
	$(BIN)/python -m pytest $(WIRE) --numprocesses=$(WORKERS) --dist=worksteal $(ARGS)
	$(BIN)/python -m pytest tests --ignore=tests/core --ignore=tests/system --ignore=tests/image $(WIRE:%=--ignore=%) $(ARGS)

test-system: $(VENV)/.dev $(VENV)/.isolation $(VENV)/.monitoring $(VENV)/.system ## tests with real servers and clients in other languages (installs them)
	tests/system/install
	$(BIN)/python -m pytest tests/system $(ARGS)

test-image: $(VENV)/.dev ## build the container image and run it; needs root, and Debian's packages (installs them)
	tests/image/install
	$(BIN)/python -m pytest tests/image --timeout 300 $(ARGS)

lock: $(VENV)/.lock ## write what the image is made of anew, after a change of pyproject.toml (ARGS=--upgrade for new versions)
	deploy/image/lock $(BIN)/uv $(ARGS)

fuzz: $(VENV)/.dev ## mutated conversations against a strict parser, 10 minutes each way (ARGS="--fuzz-seconds 60")
	$(BIN)/python -m pytest tests/fuzz -k mutated --fuzz-seconds 600 $(ARGS)

crash: $(VENV)/.dev ## kill the process 200 times while it keeps requests, and see none lost (ARGS="--crashes 10")
	$(BIN)/python -m pytest tests/crash --crashes 200 $(ARGS)

mutants: $(VENV)/.dev ## plant bugs in the circuits and see the tests catch each (ARGS=--short for some of them)
	$(BIN)/python tests/mutants/run.py $(ARGS)

bench-core: $(VENV)/.bench ## how long the circuits take to decide (ARGS=--fast for rough figures)
	$(BIN)/python bench/core/bench_circuits.py $(ARGS)

bench-forward: $(VENV)/.run ## what forwarding costs beside a plain aiohttp proxy (ARGS="--rounds 3" for rough figures)
	$(BIN)/python bench/forward/bench_forward.py $(ARGS)

bench-https: $(VENV)/.dev ## what a request costs plain, tunnelled, intercepted and originated (ARGS="--rounds 3" for rough figures)
	PYTHONPATH=bench/forward $(BIN)/python bench/https/bench_https.py $(ARGS)

bench-leaves: $(VENV)/.run ## what a leaf certificate costs in time and memory (ARGS="--leaves 1000" for more of them)
	$(BIN)/python bench/leaves/bench_leaves.py $(ARGS)

bench-memory: $(VENV)/.dev ## what each kind of peer costs in memory (ARGS="--only tunnel" for some of them)
	PYTHONPATH=tests $(BIN)/python bench/memory/bench_memory.py $(ARGS)

bench-store: $(VENV)/.run ## how many deferred requests can be stored in a second (ARGS="--directory /var/lib/x")
	$(BIN)/python bench/store/bench_store.py $(ARGS)

bench-backlog: $(VENV)/.run ## what live calls notice while 10,000 deferred requests are delivered (ARGS="--endpoints 100" for many circuits)
	PYTHONPATH=bench/forward $(BIN)/python bench/backlog/bench_backlog.py $(ARGS)

isolation: $(VENV)/.isolation ## sick endpoints beside healthy ones: with and without proxies, 15 minutes (ARGS=--short for a sixth of them)
	bench/isolation/install
	PYTHONPATH=bench:tests:docs $(BIN)/python -m isolation $(ARGS)

errors: $(VENV)/.dev ## write docs/errors.md anew, from the table of faults in tests/faults
	cd tests && ../$(BIN)/python -m faults.document

classes: $(VENV)/.run ## write the tables of docs/egress.md anew, from those of the program
	$(BIN)/python docs/classes.py

descriptions: $(VENV)/.run ## bring the comments of config.example.yaml into the schema of the file
	$(BIN)/python docs/descriptions.py

pictures: $(VENV)/.run ## draw the pictures of docs/circuits.md and docs/https.md anew
	$(BIN)/python docs/draw.py
	$(BIN)/python docs/sequences.py

monitoring: $(VENV)/.monitoring ## make the dashboard for Grafana and the PrometheusRule anew, from their sources in deploy/
	$(BIN)/python deploy/grafana/dashboard.py
	$(BIN)/python deploy/prometheus/prometheusrule.py

page-pictures: $(VENV)/.dev $(VENV)/.system ## take the pictures of docs/page.md anew (root, five minutes; look at them)
	tests/system/debian chromium=chromium pngquant=pngquant
	cd tests && PYTHONPATH=.. ../$(BIN)/python -m system.page.pictures $(ARGS)

clean: ## remove what the targets made
	rm -rf $(VENV) .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache tests/system/node/node_modules
