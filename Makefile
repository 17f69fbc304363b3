# Everything that a person or CI runs, on a machine with Python 3.11 and git. Each target first makes .venv, or
# refreshes it when constraints.txt or pyproject.toml changed.
#
#   make demo                 a SageMaker pipeline run from a private Airflow, against the local emulator
#   make demo KEEP=1          the same, then Airflow's UI stays open until Ctrl-C
#   make test                 the default test suite         (make test ARGS="-k stop -x" passes options on)
#   make test-system          the tests that start an Airflow of their own
#   make test-sdk             the tests that drive the emulator with the SageMaker Python SDK
#   make test-aiobotocore     the default suite on the older botocore that aiobotocore asks for
#   make lint                 formatting, rules, types
#   make import-cost          what importing the operators costs each time a DAG file is parsed
#   make chaos                kills and restarts befall a real Airflow on PostgreSQL, each of them five times
#                             (ARGS="--short" or ARGS="--runs 1 --rows 1,8a" for less; it installs PostgreSQL
#                             if there is none)
#   make chaos-amazon         the same for the amazon provider's operators, as measured
#   make compare              our outcomes beside the amazon provider's, as both run
#   make bench                what everything costs, beside the amazon provider's: some hours, and only one part
#                             of it with ARGS="triggers --executions 1000 --pipelines 20" (ARGS=-h for all parts)
#   make bench-sign-in        how long 200 triggers that sign in at once hold up a triggerer, beside the amazon's
#   make constraints          constraints.txt anew, from the newest releases
#   make clean                remove the virtual environments

PYTHON ?= python3
ARGS ?=
KEEP ?=

# The newest aiobotocore; it pins botocore, so that boto3 and s3transfer follow from it.
AIOBOTOCORE := 3.10.0
# The last line of the SDK whose pipelines are started through boto3.
SAGEMAKER_SDK := sagemaker<3

# The wheel is built by one of the tests, with no package index at hand.
PROJECT := -e '.[emulator,entra]' --group test --group chaos
INSTALLED_BY := constraints.txt pyproject.toml polysync_airflow/__init__.py Makefile

.PHONY: demo test test-system test-sdk test-aiobotocore lint import-cost chaos chaos-amazon compare \
        bench bench-sign-in constraints clean
.DEFAULT_GOAL := test
.SUFFIXES:

demo: .venv/.ready
	@.venv/bin/python -m tests.system.demo $(if $(KEEP),--keep)

test: .venv/.ready
	.venv/bin/python -m pytest $(ARGS)

test-system: .venv/.ready
	.venv/bin/python -m pytest -m system tests/system $(ARGS)

test-sdk: .venv/.ready .venv-sdk/.ready
	POLYSYNC_SDK_PYTHON="$(CURDIR)/.venv-sdk/bin/python" .venv/bin/python -m pytest -m sdk tests/emulator $(ARGS)

test-aiobotocore: .venv-aiobotocore/.ready
	.venv-aiobotocore/bin/python -m pytest $(ARGS)

lint: .venv/.ready
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy

import-cost: .venv/.ready
	@.venv/bin/python -m tests.packaging.import_cost

chaos: .venv/.ready
	@.venv/bin/python -m tests.chaos $(ARGS)

chaos-amazon: .venv-aiobotocore/.ready
	@.venv-aiobotocore/bin/python -m tests.chaos --provider amazon $(ARGS)

compare: .venv-aiobotocore/.ready
	@.venv-aiobotocore/bin/python -m tests.comparison.amazon_outcomes

bench: .venv-aiobotocore/.ready
	@.venv-aiobotocore/bin/python -m tests.benchmarks $(or $(ARGS),everything)

bench-sign-in: .venv-aiobotocore/.ready
	@.venv-aiobotocore/bin/python -m tests.benchmarks sign-in $(ARGS)

# Python's venv brings a pip too old to know dependency groups, so pip is the first thing to be installed.
define make_venv
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit("Python 3.11 or newer is needed, but $(PYTHON) is %d.%d. Name another: make PYTHON=python3.11" % v)'
	@echo "Making $(@D), which takes about a minute ..."
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
endef

.venv/.ready: $(INSTALLED_BY)
	$(make_venv)
	@.venv/bin/python -m pip install --quiet --constraint constraints.txt pip
	@.venv/bin/python -m pip install --quiet --constraint constraints.txt $(PROJECT) --group lint
	@touch $@

.venv-aiobotocore/.ready: $(INSTALLED_BY)
	$(make_venv)
	@grep -v -E '^(aiobotocore|boto3|botocore|s3transfer)==' constraints.txt > $(@D)/constraints.txt
	@$(@D)/bin/python -m pip install --quiet --constraint $(@D)/constraints.txt pip
	@$(@D)/bin/python -m pip install --quiet --constraint $(@D)/constraints.txt $(PROJECT) --group bench \
	    'apache-airflow-providers-amazon[aiobotocore]' aiobotocore==$(AIOBOTOCORE)
	@touch $@

# The SDK's pins and Airflow's do not go together.
.venv-sdk/.ready: Makefile
	$(make_venv)
	@$(@D)/bin/python -m pip install --quiet --upgrade pip
	@$(@D)/bin/python -m pip install --quiet '$(SAGEMAKER_SDK)'
	@touch $@

constraints:
	rm -rf .venv-constraints
	$(PYTHON) -m venv .venv-constraints
	.venv-constraints/bin/python -m pip install --quiet --upgrade pip
	.venv-constraints/bin/python -m pip install --quiet $(PROJECT) --group lint --group bench
	.venv-constraints/bin/python -m pip list --format freeze --exclude polysync-airflow --exclude setuptools \
	    > constraints.txt
	rm -rf .venv-constraints

clean:
	rm -rf .venv .venv-aiobotocore .venv-sdk .venv-constraints
