#!/bin/sh
# Pins every package, with hashes, for two environments: what `make serve` needs (run and build) and
# what the tests need on top. Run it after changing dependencies in pyproject.toml; needs uv.
set -eu
cd "$(dirname "$0")/.."
compile() { uv pip compile -q --python-version 3.11 --universal --generate-hashes --no-annotate --no-header --no-emit-index-url "$@"; }
compile pyproject.toml --group build -o requirements/serve.lock
compile pyproject.toml --group build --group dev -c requirements/serve.lock -o requirements/dev.lock
