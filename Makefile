# Everything moda needs is installed below this folder (.venv, web/node_modules, bin, target), but for
# services that come from Debian packages, which are only installed when run as root.

PYTHON ?= python3
PORT ?= 4001
VENV := .venv
PY := $(VENV)/bin/python
STAMPS := .make
RUST_SOURCES := $(shell find rust/core/src rust/python/src -name '*.rs' 2>/dev/null)
WEB_SOURCES := $(shell find web/src web/public -type f 2>/dev/null) web/index.html web/package.json web/package-lock.json web/licences.ts python/moda/asyncapi/pages/assets/palette.css $(wildcard web/vite.config.*)
K6_VERSION := v1.8.1
CARGO_FUZZ_VERSION := 0.13.2
FUZZ_TARGETS := frame_text frame_binary varuint websocket feed head event_id
FUZZ_SECONDS ?= 60
SOAK ?= 10
SOAK_SECONDS ?= 1200

.DEFAULT_GOAL := help
.PHONY: help serve test check bench load soak fuzz wheel lock clean test-python test-rust test-web test-e2e test-wheel

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

serve: $(STAMPS)/ext $(STAMPS)/console ## build what is missing and start the gateway on http://localhost:4001 (PORT=...)
	@PORT=$(PORT) exec $(VENV)/bin/moda serve

test: test-rust test-python test-web test-e2e test-wheel ## install what the tests need and run them all

test-rust: $(STAMPS)/rust-ready
	cargo test -q -p moda-core -p moda-load --locked

test-python: $(STAMPS)/dev $(STAMPS)/ext $(STAMPS)/console $(STAMPS)/node-tests
	@tools/need openssl openssl
	@tools/need initdb postgresql
	$(PY) -m pytest -q --ignore=tests/e2e

test-web: $(STAMPS)/web
	cd web && npm test --silent

test-e2e: $(STAMPS)/dev $(STAMPS)/ext $(STAMPS)/console $(STAMPS)/web $(STAMPS)/node-tests
	@tools/need chromium chromium
	$(PY) -m pytest -q tests/e2e

test-wheel: wheel
	tools/try-wheel dist/moda-*.whl

check: $(STAMPS)/dev $(STAMPS)/ext $(STAMPS)/web $(STAMPS)/rust-ready ## linters, types, formats, stubs
	$(VENV)/bin/ruff check python tests benches build_backend examples k6 tools
	$(VENV)/bin/ruff format --check python tests benches build_backend examples k6 tools
	$(VENV)/bin/mypy
	MYPYPATH=python $(PY) -m mypy.stubtest moda._core moda._session --allowlist tools/stubtest.txt --ignore-unused-allowlist
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cd rust/fuzz && cargo fmt --check
	@# Type-checked without libFuzzer itself, which a check does not link and would compile for a minute.
	cd rust/fuzz && CUSTOM_LIBFUZZER_PATH=/nowhere/libfuzzer.a CARGO_TARGET_DIR=$(CURDIR)/target/fuzz-check cargo check -q --locked
	cd web && npm run --silent check
	$(PY) -m benches.table --check

bench: $(STAMPS)/dev $(STAMPS)/ext $(STAMPS)/console ## measure against this machine's limits; writes benches/results
	cargo build -q --release -p moda-load --locked
	$(PY) -m pytest -q benches --benchmark-disable-gc --benchmark-columns=min,median,ops
	$(PY) -m benches.system
	$(PY) -m benches.table

load: $(STAMPS)/dev $(STAMPS)/ext $(STAMPS)/console bin/k6 ## run the k6 scenarios against a server they start
	$(PY) -m k6.run

soak: $(STAMPS)/dev $(STAMPS)/ext ## fault tests with SOAK (10) times the rounds, then SOAK_SECONDS (1200) under attack
	SOAK=$(SOAK) $(PY) -m pytest -q $$(grep -rlE 'environ.*"SOAK"' tests --include='test_*.py')
	PYTHONPATH=tests:. SOAK_SECONDS=$(SOAK_SECONDS) $(PY) -m soak

fuzz: $(STAMPS)/cargo-fuzz ## fuzz every target for FUZZ_SECONDS (60)
	@set -e; for target in $(FUZZ_TARGETS); do \
	  echo "== $$target"; mkdir -p target/fuzz/corpus/$$target; \
	  CARGO_TARGET_DIR=$(CURDIR)/target/fuzz PATH=$(CURDIR)/$(STAMPS)/bin:$$PATH cargo fuzz run --fuzz-dir rust/fuzz --sanitizer none \
	    $$target target/fuzz/corpus/$$target rust/fuzz/corpus/$$target -- -max_total_time=$(FUZZ_SECONDS); \
	done

wheel: $(STAMPS)/venv $(STAMPS)/rust-ready $(STAMPS)/console ## build dist/moda-*.whl
	rm -rf dist
	$(PY) -m pip wheel -q --no-deps --no-build-isolation -w dist .

lock: ## pin all Python packages again (needs uv)
	requirements/lock.sh

clean: ## remove everything that was built
	rm -rf $(VENV) $(STAMPS) target build dist bin web/node_modules tests/node/node_modules tests/e2e/node_modules examples/chat/node_modules python/moda/console python/moda/*.so

# -- what the above stand on

$(STAMPS):
	@mkdir -p $@

$(STAMPS)/venv: requirements/serve.lock | $(STAMPS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "moda needs Python 3.11 or newer, got $$($(PYTHON) --version); try make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "making $(VENV) (runtime and build packages)"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements/serve.lock
	@touch $@

$(STAMPS)/dev: requirements/dev.lock $(STAMPS)/venv
	$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@

$(STAMPS)/rust-ready: | $(STAMPS)
	@tools/toolchain rust
	@touch $@

$(STAMPS)/ext: $(STAMPS)/venv $(STAMPS)/rust-ready Cargo.toml Cargo.lock pyproject.toml $(RUST_SOURCES) cython/_session.pyx cython/_session.pxd build_backend/moda_build.py
	@echo "building the engine (Rust) and the session (Cython)"
	$(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(STAMPS)/web: web/package-lock.json | $(STAMPS)
	@tools/toolchain node
	cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(STAMPS)/console: $(STAMPS)/web $(WEB_SOURCES)
	@echo "building the console"
	cd web && npm run --silent build
	@touch $@

$(STAMPS)/node-tests: tests/node/package-lock.json tests/e2e/package-lock.json examples/chat/package-lock.json | $(STAMPS)
	cd tests/node && npm ci --no-audit --no-fund --loglevel=error
	cd tests/e2e && npm ci --no-audit --no-fund --loglevel=error
	cd examples/chat && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(STAMPS)/cargo-fuzz: | $(STAMPS)
	cargo install -q cargo-fuzz --version $(CARGO_FUZZ_VERSION) --locked --root $(STAMPS)
	@touch $@

bin/k6:
	@command -v go >/dev/null || { echo "k6 is built from its Go module: install Go 1.24 or newer" >&2; exit 1; }
	GOBIN=$(CURDIR)/bin go install go.k6.io/k6@$(K6_VERSION)
