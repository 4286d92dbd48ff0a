# make run     a virtual environment, the models, and the assistant at http://127.0.0.1:7860
# make test    everything the tests need, then the tests (COVERAGE=1 measures coverage)
# make check   format, lint and types
# make clean   remove what make and the tools made here; models stay
#
# PYTHON is the interpreter (3.11 or later) the environment is made with, VENV its folder.

PYTHON ?= python3
VENV ?= .venv
BOT ?= assistant
RUN_ARGS ?=
PYTEST_ARGS ?=
# 2 runs the tests that need not be alone in two processes (each file in one), then the others.
TEST_PROCESSES ?= 1

BIN := $(VENV)/bin
RUN_MODELS := base smollm2-135m piper-en-us-joe
TEST_MODELS := $(RUN_MODELS) tiny.en
# mypy must see the packages under their installed names: links into one namespace do that.
LINKS := .mypy_cache/links

.DEFAULT_GOAL := help
# Two targets must not install into one environment at once.
.NOTPARALLEL:
.PHONY: help run test check clean tools

help:
	@sed -n 's/^# \?//p;/^$$/q' Makefile

run: $(VENV)/.talkpath-run
	$(BIN)/talkpath models pull $(RUN_MODELS)
	$(BIN)/talkpath run $(BOT) $(RUN_ARGS)

test: tools $(VENV)/.talkpath-test
	$(BIN)/talkpath models pull $(TEST_MODELS)
ifdef COVERAGE
	$(BIN)/python -m coverage run -m pytest $(PYTEST_ARGS)
	$(BIN)/python -m coverage report
else ifeq ($(TEST_PROCESSES),1)
	$(BIN)/python -m pytest $(PYTEST_ARGS)
else
	@failed=0; set -x; \
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m "not alone" $(PYTEST_ARGS) || \
		failed=$$?; \
	$(BIN)/python -m pytest -m alone $(PYTEST_ARGS) || failed=$$?; \
	exit $$failed
endif

check: $(VENV)/.talkpath-check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@mkdir -p $(LINKS)/talkpath
	@for folder in agent bots processors transports; do \
		ln -sfn "$(CURDIR)/$$folder" $(LINKS)/talkpath/$$folder; done
	MYPYPATH=$(LINKS) $(BIN)/mypy --explicit-package-bases $(LINKS)/talkpath tests

clean:
	rm -rf .venv build dist talkpath.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis \
		.coverage tests/web/node_modules
	find agent bots processors transports tests -name __pycache__ -prune -exec rm -rf {} +

# -- the environment -------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or later is needed: make PYTHON=python3.11" >&2; exit 1; }
	@[ -e $(VENV) ] && there=1 || there=; $(PYTHON) -m venv $(VENV) || { \
		echo "the venv module is needed, on Debian and Ubuntu: apt-get install python3-venv" >&2; \
		[ -n "$$there" ] || rm -rf $(VENV); exit 1; }

$(VENV)/.talkpath-run: EXTRAS := local
$(VENV)/.talkpath-test: EXTRAS := local,noise,sip,test
$(VENV)/.talkpath-check: EXTRAS := local,noise,sip,test,dev
$(VENV)/.talkpath-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --upgrade "pip>=24.1"
	$(BIN)/python -m pip install -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

# Programs that some tests need. Where they cannot be installed, those tests are skipped, and
# say so; with TALKPATH_REQUIRE_TOOLS=1 they fail.
tools:
	@missing=""; \
	for pair in chromium:chromium ffmpeg:ffmpeg node:nodejs npm:npm sipp:sip-tester \
			baresip:baresip-core kamailio:kamailio linphone-daemon:linphone-cli svmap:sipvicious; do \
		PATH="$$PATH:/usr/sbin" command -v "$${pair%:*}" >/dev/null || \
			missing="$$missing $${pair#*:}"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	sudo=""; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	if command -v apt-get >/dev/null && $$sudo true 2>/dev/null; then \
		$$sudo apt-get update && \
		$$sudo env DEBIAN_FRONTEND=noninteractive \
			apt-get install -y --no-install-recommends $$missing; \
	else \
		echo "some tests will be skipped without these programs:$$missing" >&2; \
	fi
