# One virtual environment in .venv, made on first use; later calls install nothing again.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := 2.13.0
# Modules whose wheels from the package index do not fit a CPU build of torch; text models need none.
TORCH_COMPANIONS := torchvision torchaudio torchcodec
# Of the tests: one has the live engines, the other what needs none; a third would make their load late.
WORKERS := 2

# Vidur's upstream, in an environment of its own; VIDUR_UPSTREAM_URL names another place to clone from.
UPSTREAM := extern/tracked/vidur
UPSTREAM_VENV := .venv-upstream
VIDUR_UPSTREAM_URL :=
UPSTREAM_GIT := git $(if $(VIDUR_UPSTREAM_URL),-c submodule.$(UPSTREAM).url=$(VIDUR_UPSTREAM_URL) -c protocol.file.allow=always)

.PHONY: bench test wheel-test bench-live docs lint clean help vidur-upstream

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

bench: $(VENV)/.vidur ## Compare Vidur with the recorded vLLM runs of Qwen3-0.6B on CPU
	$(BIN)/pytest benchmarks -m cpu --gpusim-real recorded --gpusim-inconclusive xfail \
	  --gpusim-require --gpusim-report tmp/report.html

test: $(VENV)/.cpu ## Lint, type-check and run all tests, the real vLLM on CPU included
	$(MAKE) lint
	$(BIN)/pytest -n $(WORKERS) --gpusim-real recorded --gpusim-inconclusive xfail

bench-live: $(VENV)/.cpu ## Profile and measure everything anew on this machine, then compare
	$(BIN)/python -m benchmarks.live

wheel-test: $(VENV)/bin/python ## Build the wheel, install it elsewhere, run the quick start from it
	PYTHON=$(abspath $(BIN)/python) .ci/wheel

docs: $(VENV)/.docs ## Build the documentation into site/, broken links as errors
	$(BIN)/mkdocs build --strict

lint: $(VENV)/.cpu ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

vidur-upstream: $(VENV)/bin/python ## Install Vidur's upstream, at the pinned commit, into .venv-upstream
	$(UPSTREAM_GIT) submodule update --init -- $(UPSTREAM)
	PYTHON=$(BIN)/python sh extern/install_upstream.sh $(UPSTREAM) $(UPSTREAM_VENV)

clean: ## Remove generated artifacts, not the environment
	rm -rf tmp/* .pytest_cache .mypy_cache .ruff_cache .benchmarks

$(VENV)/bin/python:
	@for python in python3 python3.11 python3.12; do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; \
	  then echo "creating $(VENV) with $$python"; $$python -m venv $(VENV) && exit 0; fi; \
	done; echo "Python 3.11 or 3.12 with venv is needed: install one of them" >&2; exit 1

# The extra silicon is 82 MB to download and 114 MB on disk; it changes no version of the others.
$(VENV)/.vidur: pyproject.toml Makefile | $(VENV)/bin/python
	$(PIP) install -e '.[vidur,silicon,test]'
	@touch $@

$(VENV)/.docs: pyproject.toml Makefile | $(VENV)/bin/python
	$(PIP) install -e '.[vidur,docs]'
	@touch $@

# The CPU build of vLLM pins a CPU build of torch. Where pip's indexes have none, uv knows where
# PyTorch keeps it.
$(VENV)/.cpu: pyproject.toml Makefile | $(VENV)/bin/python
	$(PIP) install 'torch==$(TORCH)+cpu' || { \
	  $(PIP) install uv && $(BIN)/uv pip install --python $(BIN)/python --torch-backend cpu 'torch==$(TORCH)'; }
	$(PIP) install -e '.[cpu,silicon,dev]'
	@$(BIN)/python -c 'import torchvision' 2>/dev/null || $(PIP) uninstall -y $(TORCH_COMPANIONS)
	@touch $@ $(VENV)/.vidur
