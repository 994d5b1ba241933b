# Everything a developer needs, by name. The first target that needs the environment makes it in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PHOTOS ?=
IMAGE ?=

# Some containers set it. Every worker would then compile all of its modules again, which doubles the time of the tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-evidence demo-tls test slowest check lint docs bench lock clean

# Real pictures in, nearest neighbours out: a table in the terminal and a contact sheet in demo/.
demo: $(VENV)/demo
	$(BIN)/python examples/demo.py $(if $(PHOTOS),"$(PHOTOS)")

# A disk image in, what its event logs show out: in the terminal, and as a page in demo/.
demo-evidence: $(VENV)/demo
	$(BIN)/python examples/evidence.py $(if $(IMAGE),"$(IMAGE)")

# A grid of signature schemes and links in, what they cost out: a table in the terminal, curves and a page in demo/.
demo-tls: $(VENV)/demo
	$(BIN)/python examples/tls.py

# The picture of the report in the README; Chromium makes it.
docs/report.png: $(VENV)/demo
	$(BIN)/python examples/evidence.py
	chromium --headless --no-sandbox --hide-scrollbars --window-size=1000,1320 --screenshot=$@ file://$(CURDIR)/demo/mesa.E01.html

# The picture of the tls job in the README.
docs/tls.png: $(VENV)/demo
	$(BIN)/fanfold tls measure examples/walls.grid.toml demo/walls
	$(BIN)/fanfold tls report demo/walls --out demo/walls-report
	cp demo/walls-report/curves.png $@

# The pictures of the page and of its map: the demo's photos, in Chromium.
docs/view.png docs/map.png &: $(VENV)/dev
	$(BIN)/python examples/demo.py </dev/null
	$(BIN)/fanfold images labels demo/data-*
	$(BIN)/fanfold images map demo/data-*
	$(BIN)/python docs/view.py demo/data-* docs/view.png docs/map.png

# Tests at a time. More than cores, because a third of their time is waiting.
JOBS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 2)))
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --durations=60 --durations-min=1

test: $(VENV)/dev
	$(PYTEST)

# The suite, then the table of its slowest tests in CONTRIBUTING.md. From an earlier log: tests/slowest.py < LOG
slowest: $(VENV)/dev
	$(PYTEST) | tee /dev/stderr | $(BIN)/python tests/slowest.py

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

# The generated parts of docs/.
docs: $(VENV)/dev
	$(BIN)/python docs/generate.py

# Every benchmark, side by side with its peers; appends to benches/RESULTS.md.
bench: $(VENV)/dev
	$(BIN)/python benches/run.py

# pip of the system, aimed at the environment: works where Debian's python3-venv is not installed.
PIP = $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check install --quiet

$(VENV)/bin/python:
	$(PYTHON) -m venv --without-pip $(VENV)

# The locks are complete, hence --no-deps (which also leaves out what scikit-image needs beyond its pictures).
$(VENV)/demo: requirements/demo.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) (about half a minute) ..."
	@test -e $(VENV)/dev || $(PIP) --no-deps --no-compile -r requirements/demo.lock
	@$(PIP) --no-deps -e .
	@touch $@

# What you need to deploy on AWS and to use a deployment. Docker and Node.js are not included: see infra/README.md.
$(VENV)/deploy: requirements/deploy.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) (about half a minute) ..."
	@test -e $(VENV)/dev || $(PIP) --no-deps --no-compile -r requirements/deploy.lock
	@$(PIP) --no-deps -e .
	@touch $@

# Without Node.js the tests of the deployment are skipped: the CDK and the DynamoDB emulator need it.
$(VENV)/dev: requirements/dev.lock pyproject.toml tests/npm/package-lock.json | $(VENV)/bin/python
	@echo "Installing into $(VENV) (about a minute) ..."
	@$(PIP) --no-deps --no-compile -r requirements/dev.lock
	@$(PIP) --no-deps -e .
	@if command -v npm >/dev/null; then cd tests/npm && npm ci --silent --no-audit --no-fund; fi
	@touch $@

# Resolve the newest versions that pyproject.toml allows. Only the pictures of scikit-image are used.
UNWANTED := imageio lazy-loader
COMPILE = uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --upgrade
DEMO = $(UNWANTED:%=--no-emit-package %) --extra images --extra view --extra evidence --extra tls --group demo
lock:
	$(COMPILE) $(DEMO) --no-emit-package scipy --no-emit-package networkx -o requirements/demo.lock
	$(COMPILE) $(DEMO) --extra evidence-vm --extra evidence-vss --extra evidence-prefetch --extra heic --extra lite2 --extra map \
		--extra openvino --extra text --extra tiff --extra aws --extra ray --extra cdk --group test --group lint \
		-o requirements/dev.lock
	$(COMPILE) --extra images --extra lite2 --extra aws --extra cdk -o requirements/deploy.lock
	$(COMPILE) infra/worker.in --extra images --extra lite2 --extra openvino --extra aws -o requirements/worker.lock
	uv pip compile infra/gpu.in --python-platform x86_64-manylinux_2_28 --python-version 3.13 --generate-hashes \
		--no-header --no-annotate --upgrade -o infra/gpu.lock

clean:
	rm -rf $(VENV) .venv-bench tests/npm/node_modules demo bench-data build dist
