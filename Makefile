# The commands for developers and CI. They need git and Python 3.11, 3.12 or 3.13. Each target first creates the
# virtual environment that it needs, or refreshes it if constraints.txt or pyproject.toml has changed. Add
# PYTHON=python3.12 to use another Python version; each version has a virtual environment of its own.
#
#   make demo                 run a SageMaker pipeline from a private Airflow, against the local emulator
#   make demo KEEP=1          the same; the Airflow UI stays available until Ctrl-C
#   make test                 the default test suites: those of the provider and of the emulator
#   make test-repository      the tests beside them that need neither a whole Airflow nor a browser: packages, stored shapes,
#                             random input, tools of the tests
#   make test-provider        the first of the default suites (make test-provider ARGS="-k stop -x" passes options to pytest)
#   make test-emulator        the second, in an environment without Airflow
#   make test-browser         the tests of the tab, the page and of forms. Installs Chromium if it is missing.
#   make test-accessibility   check the tab and the page with axe-core. Installs Chromium and Node.js if they are missing.
#   make test-system          the tests that start an Airflow deployment, and those of `polysync verify` in real time.
#                             Installs Chromium if it is missing.
#   make test-clients         the tests of the emulator with the clients that people use: the SageMaker Python SDK, the
#                             AWS CLI, boto3, AWS's SDK for JavaScript. Installs Node.js if it is missing.
#   make test-aiobotocore     the tests of what botocore can change, with the older one that aiobotocore requires
#   make mutants              change the pure cores, and show the changes that no test of theirs notices
#                             ARGS="--since '1 day ago'" changes only what commits since then have changed
#   make mutants-drivers      the same for the drivers: a tenth of the changes each day, in 90 minutes at most.
#                             ARGS="'polysync_airflow.records.*'" tries all changes of a module
#   make lint                 check formatting, lint rules, types and workflows
#   make docs                 build the documentation into site/; a warning is an error. Open site/index.html: its
#                             search needs no server
#   make test-docs            compare the pages with the code, run the example DAGs and the examples of all pages, and
#                             follow their links
#   make licences             check the licences of all packages that users install with these
#   make release              build wheels, sdists, SBOMs and hashes into dist/, and run the demo from the wheels
#   make screenshots          make the pictures of the UI in docs/images/ again. Installs Chromium if it is missing.
#   make import-cost          measure what an import of the operators costs each time a DAG file is parsed
#   make parse-cost           measure what a DAG file costs each time it is parsed: a DAG for each job, a task for each step
#   make chaos                kill and restart processes of a real Airflow on PostgreSQL; each case runs five times
#                             (ARGS="--short" or ARGS="--runs 1 --rows 1,8a" runs less). ARGS="--executor celery" takes
#                             CeleryExecutor, with Redis and two workers, instead of LocalExecutor, and
#                             ARGS="--executor pods" KubernetesExecutor, with an API whose pods are processes.
#                             ARGS="--executor no-key" has LocalExecutor and no Fernet key.
#                             ARGS="--airflow 3.4.0b2" takes one of the versions of make matrix, and
#                             ARGS="--upgrade 3.3.1:3.4.0b2" runs the cases of an upgrade of Airflow. Installs
#                             PostgreSQL and Redis if they are missing.
#   make chaos-amazon         the same for the operators of the Amazon provider
#   make compare              run our operators and those of the Amazon provider through the same cases
#   make bench                run all benchmarks, compared with the Amazon provider; takes some hours.
#                             ARGS="triggers --executions 1000 --pipelines 20" runs one part; ARGS=-h lists the parts
#   make bench-page           measure how long the page of all executions takes with 10,000 executions of 50 DAGs
#   make bench-marks          measure what a mark of a DAG run with 1,000 tasks pays for the listener of the watch
#   make bench-sign-in        measure how long 200 triggers that sign in at the same time stall a triggerer, compared
#                             with the Amazon provider
#   make bench-events         measure how soon a DAG starts after an event, and what a killed triggerer loses
#   make matrix               the same package on Airflow 2.11, 3.2 and 3.3, each with the pins of a managed service,
#                             and on the pre-release 3.4.
#                             ARGS="--versions 2.11.2 --steps install,tables" runs less
#   make nightly              everything that is slow and seldom fails: tests with the marker `nightly`, mutants, matrix,
#                             random cases, clients, long chaos, costs
#   make constraints          write constraints.txt again, from the newest releases
#   make clean                remove the virtual environments

# Otherwise each process of the tests, and of an Airflow, compiles the modules and DAG files again.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
ARGS ?=
KEEP ?=

# pyenv's command for a version that is not selected only prints an error. Then ask pyenv which version has it.
EXECUTABLE := 'import sys; print(sys.executable)'
INTERPRETER := $(shell $(PYTHON) -c $(EXECUTABLE) 2>/dev/null || \
    PYENV_VERSION="$$(pyenv whence $(PYTHON) 2>/dev/null | tail -1)" $(PYTHON) -c $(EXECUTABLE) 2>/dev/null)
$(if $(INTERPRETER),,$(error PYTHON=$(PYTHON) does not run. Name another one: make PYTHON=python3.11))

# One virtual environment for each Python version, such as .venv-3.12.
VERSION := $(shell $(INTERPRETER) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv-$(VERSION)
EMULATOR_VENV := $(VENV)-emulator
AIOBOTOCORE_VENV := $(VENV)-aiobotocore
SDK2_VENV := $(VENV)-sdk2
SDK3_VENV := $(VENV)-sdk3
NODE_ENV := .venv-node
AXE_ENV := .venv-axe
DOCS_VENV := $(VENV)-docs
LICENCES_VENV := $(VENV)-licences
RELEASE_VENV := $(VENV)-release

# The newest aiobotocore. It requires an exact botocore, from which the versions of boto3 and s3transfer follow.
AIOBOTOCORE := 3.10.0
# The clients of the emulator's tests. emulator/docs/clients-and-services.md lists the same versions.
SAGEMAKER_SDK_2 := sagemaker==2.257.7
SAGEMAKER_SDK_3 := sagemaker==3.27.0
AWS_CLI := awscli==1.46.3
JAVASCRIPT_SDK := @aws-sdk/client-sagemaker@3.1142.0
AXE := axe-core@4.14.1

# One of the tests builds the wheels, without access to a package index.
PROJECT := -e '.[emulator,entra,openlineage]' -e ./emulator --group test --group chaos
# What depends on botocore: calls, sign-in, hooks, and one table of outcomes.
BOTOCORE_TESTS := tests/unit/aws tests/unit/auth tests/unit/test_hooks.py tests/unit/operators/test_start_outcomes.py \
    tests/unit/testing/test_amazon_provider.py
# Its tests are a project of their own, with their own options.
EMULATOR_PYTEST = cd emulator && ../$(EMULATOR_VENV)/bin/python -m pytest
# One process of tests for each core.
# One more process than there are cores, since some tests wait.
IN_PARALLEL := --numprocesses $(shell expr $$(nproc) + 1) --dist worksteal
# What pip knows of the emulator.
EMULATOR_METADATA := emulator/pyproject.toml emulator/sagemaker_emulator/__init__.py
INSTALLED_BY := constraints.txt pyproject.toml polysync_airflow/__init__.py $(EMULATOR_METADATA) Makefile

.PHONY: install install-aiobotocore install-clients demo test test-provider test-repository test-emulator test-docs mutants test-browser test-system test-clients test-accessibility \
        test-aiobotocore lint docs licences release screenshots nightly mutants-drivers \
        import-cost parse-cost matrix chaos chaos-amazon compare bench bench-page bench-marks bench-sign-in bench-events constraints clean
.DEFAULT_GOAL := test
.SUFFIXES:

install: $(VENV)/.ready $(EMULATOR_VENV)/.ready
install-aiobotocore: $(AIOBOTOCORE_VENV)/.ready
install-clients: $(EMULATOR_VENV)/.ready $(SDK2_VENV)/.ready $(SDK3_VENV)/.ready $(NODE_ENV)/.ready

demo: $(VENV)/.ready
	@$(VENV)/bin/python -m tests.system.demo $(if $(KEEP),--keep)

test: test-provider test-emulator

test-provider: $(VENV)/.ready
	$(VENV)/bin/python -m pytest $(IN_PARALLEL) $(ARGS)

test-repository: $(VENV)/.ready
	$(VENV)/bin/python -m pytest $(IN_PARALLEL) --ignore tests/unit --ignore tests/documentation tests $(ARGS)

test-emulator: $(EMULATOR_VENV)/.ready
	$(EMULATOR_PYTEST) $(IN_PARALLEL) $(ARGS)

mutants: $(VENV)/.mutants
	$(VENV)/bin/python -m tests.mutants $(ARGS)

mutants-drivers: $(VENV)/.mutants
	$(VENV)/bin/python -m tests.mutants --drivers $(ARGS)

test-browser: $(VENV)/.ready $(DOCS_VENV)/.ready
	POLYSYNC_DOCS_PYTHON="$(CURDIR)/$(DOCS_VENV)/bin/python" \
	    $(VENV)/bin/python -m pytest -m 'system and not nightly' tests/documentation tests/browser $(ARGS)

test-accessibility: $(VENV)/.ready $(AXE_ENV)/.ready
	POLYSYNC_AXE="$(CURDIR)/$(AXE_ENV)/node_modules/axe-core/axe.min.js" \
	    $(VENV)/bin/python -m pytest -m system tests/browser/test_accessibility.py $(ARGS)

test-system: $(VENV)/.ready $(EMULATOR_VENV)/.ready
	$(VENV)/bin/python -m pytest -m 'system and not nightly' tests/system $(ARGS)
	$(EMULATOR_PYTEST) -m system tests/verify $(ARGS)

test-clients: export POLYSYNC_SDK2_PYTHON := $(CURDIR)/$(SDK2_VENV)/bin/python
test-clients: export POLYSYNC_SDK3_PYTHON := $(CURDIR)/$(SDK3_VENV)/bin/python
test-clients: export POLYSYNC_AWS_CLI := $(CURDIR)/$(SDK2_VENV)/bin/aws
test-clients: export POLYSYNC_NODE_MODULES := $(CURDIR)/$(NODE_ENV)/node_modules
test-clients: install-clients
	$(EMULATOR_PYTEST) -m clients $(IN_PARALLEL) tests/clients $(ARGS)

test-aiobotocore: $(AIOBOTOCORE_VENV)/.ready
	$(AIOBOTOCORE_VENV)/bin/python -m pytest $(IN_PARALLEL) $(BOTOCORE_TESTS) $(ARGS)

lint: $(VENV)/.ready
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	cd emulator && ../$(VENV)/bin/mypy
	$(VENV)/bin/zizmor --offline --quiet --strict-collection .github

docs: $(DOCS_VENV)/.ready
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/python -m mkdocs build --strict $(ARGS)

test-docs: $(VENV)/.ready
	$(VENV)/bin/python -m pytest -m 'not nightly and not system' $(IN_PARALLEL) tests/documentation $(ARGS)

licences: $(LICENCES_VENV)/.ready
	$(LICENCES_VENV)/bin/pip-licenses $(ARGS)

release: $(RELEASE_VENV)/.ready
	@$(RELEASE_VENV)/bin/python -m tests.packaging.release

screenshots: $(VENV)/.ready
	$(VENV)/bin/python -m tests.documentation.screenshots $(ARGS)

import-cost: $(VENV)/.ready
	@$(VENV)/bin/python -m tests.packaging.import_cost

parse-cost: $(VENV)/.ready
	@$(VENV)/bin/python -m tests.packaging.parse_cost

matrix: $(VENV)/.ready
	$(VENV)/bin/python -m tests.matrix $(ARGS)

chaos: $(VENV)/.ready
	@$(VENV)/bin/python -m tests.chaos $(ARGS)

chaos-amazon: $(AIOBOTOCORE_VENV)/.ready
	@$(AIOBOTOCORE_VENV)/bin/python -m tests.chaos --provider amazon $(ARGS)

compare: $(AIOBOTOCORE_VENV)/.ready
	@$(AIOBOTOCORE_VENV)/bin/python -m tests.comparison.amazon_outcomes

bench: $(AIOBOTOCORE_VENV)/.ready
	@$(AIOBOTOCORE_VENV)/bin/python -m tests.benchmarks $(or $(ARGS),everything)

nightly:
	@.ci/nightly

bench-sign-in: $(AIOBOTOCORE_VENV)/.ready
	@$(AIOBOTOCORE_VENV)/bin/python -m tests.benchmarks sign-in $(ARGS)

bench-page: $(VENV)/.ready
	@$(VENV)/bin/python -m tests.benchmarks.page_benchmark $(ARGS)

bench-marks: $(VENV)/.ready
	@$(VENV)/bin/python -m tests.benchmarks.mark_cost $(ARGS)

bench-events: $(VENV)/.ready
	@$(VENV)/bin/python -m tests.system.events $(ARGS)

# uv installs several times as fast as pip. Behind a company's proxy, only the system knows the certificates.
INSTALL = $(@D)/bin/python -m uv pip install --quiet --system-certs --python $(@D)/bin/python
define make_venv
	@$(INTERPRETER) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, but $(PYTHON) is $(VERSION). Name another one: make PYTHON=python3.11")'
	@echo "Creating $(@D), which takes about a minute ..."
	@test -x $(@D)/bin/python || $(INTERPRETER) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --constraint constraints.txt uv
endef

INSTALL_NODE := 'from tests.chaos.deployment.packages import PackageInstaller as Installer; Installer("npm").install("npm")'

$(VENV)/.ready: $(INSTALLED_BY)
	$(make_venv)
	@$(INSTALL) --compile-bytecode --constraint constraints.txt $(PROJECT) --group lint
	@touch $@

# What its users install, and what its tests need.
$(EMULATOR_VENV)/.ready: constraints.txt $(EMULATOR_METADATA) Makefile
	$(make_venv)
	@$(INSTALL) --compile-bytecode --constraint constraints.txt -e ./emulator --group emulator/pyproject.toml:test
	@touch $@

$(VENV)/.mutants: $(VENV)/.ready
	@$(INSTALL) --constraint constraints.txt --group mutants
	@touch $@

$(AIOBOTOCORE_VENV)/.ready: $(INSTALLED_BY)
	$(make_venv)
	@grep -v -E '^(aiobotocore|boto3|botocore|s3transfer)==' constraints.txt > $(@D)/constraints.txt
	@$(INSTALL) --constraint $(@D)/constraints.txt $(PROJECT) --group bench \
	    'apache-airflow-providers-amazon[aiobotocore]' aiobotocore==$(AIOBOTOCORE)
	@touch $@

# The SDK's dependencies conflict with Airflow's.
$(SDK2_VENV)/.ready: Makefile
	$(make_venv)
	@$(INSTALL) '$(SAGEMAKER_SDK_2)' '$(AWS_CLI)'
	@touch $@

# Without packages that pipelines do not import, such as those that serve models, it has half the size. One of them
# would bring docker, which is imported.
$(SDK3_VENV)/.ready: Makefile
	$(make_venv)
	@printf '%s\n' fastapi mlflow pyarrow pyiceberg s3fs sagemaker-mlflow sagemaker-schema-inference-artifacts \
	    scikit-learn skops uvicorn > $(@D)/excludes.txt
	@$(INSTALL) --excludes $(@D)/excludes.txt '$(SAGEMAKER_SDK_3)' docker
	@touch $@

$(NODE_ENV)/.ready: NODE_PACKAGE = $(JAVASCRIPT_SDK)
$(AXE_ENV)/.ready: NODE_PACKAGE = $(AXE)
$(NODE_ENV)/.ready $(AXE_ENV)/.ready: Makefile | $(VENV)/.ready
	@command -v npm > /dev/null || $(VENV)/bin/python -c $(INSTALL_NODE)
	@echo "Creating $(@D) ..."
	@mkdir -p $(@D)
	@npm install --prefix $(@D) --no-save --no-package-lock --no-audit --no-fund --loglevel error '$(NODE_PACKAGE)'
	@touch $@

# Without Airflow and without the package: the reference is made from the sources.
$(DOCS_VENV)/.ready: constraints.txt pyproject.toml Makefile
	$(make_venv)
	@$(INSTALL) --constraint constraints.txt --group docs
	@touch $@

# What users install, with all extras, and nothing else.
$(LICENCES_VENV)/.ready: constraints.txt pyproject.toml $(EMULATOR_METADATA) Makefile
	$(make_venv)
	@$(INSTALL) --constraint constraints.txt -e '.[emulator,entra,openlineage,testing]' -e ./emulator \
	    --group licences
	@touch $@

# Only tools: the release makes environments of its own for the wheels.
$(RELEASE_VENV)/.ready: constraints.txt pyproject.toml Makefile
	$(make_venv)
	@$(INSTALL) --constraint constraints.txt --group release
	@touch $@

constraints:
	rm -rf .venv-constraints
	$(INTERPRETER) -m venv .venv-constraints
	.venv-constraints/bin/python -m pip install --quiet --upgrade pip
	.venv-constraints/bin/python -m pip install --quiet $(PROJECT) --group lint --group bench --group docs \
	    --group mutants --group licences --group release --group install
	.venv-constraints/bin/python -m pip list --format freeze --exclude polysync-airflow \
	    --exclude sagemaker-pipelines-emulator --exclude setuptools > constraints.txt
	rm -rf .venv-constraints

clean:
	rm -rf .venv .venv-* mutants
