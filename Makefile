# The commands for developers and CI: `make help` lists them. They need git and Python 3.11, 3.12 or 3.13.
#
# A target first creates the virtual environment that it needs, or refreshes it if the pins or requirements have
# changed. PYTHON=python3.12 uses another Python, which has environments of its own. ARGS has options for the program
# that a target runs: make test-provider ARGS="-k stop -x", make chaos ARGS=-h.

PYTHON ?= python3
# Otherwise each process of the tests, and of an Airflow, compiles the modules and DAG files again.
unexport PYTHONDONTWRITEBYTECODE

# pyenv's command for a version that is not selected only prints an error. Then ask pyenv which version has it.
PROBE := 'import sys; sys.version_info >= (3, 11) and print(sys.executable)'
INTERPRETER := $(shell $(PYTHON) -c $(PROBE) 2>/dev/null || \
    PYENV_VERSION="$$(pyenv whence $(PYTHON) 2>/dev/null | tail -1)" $(PYTHON) -c $(PROBE) 2>/dev/null)
$(if $(INTERPRETER),,$(error PYTHON=$(PYTHON) is no Python 3.11 or newer. Name another one: make PYTHON=python3.11))
VENV := .venv-$(shell $(INTERPRETER) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PY := $(VENV)/bin/python
# Its tests are a project of their own, with their own options.
EMULATOR_PYTEST := cd emulator && ../$(VENV)-emulator/bin/python -m pytest
# A process for each core: more of them would spend more CPU on imports and collection than the tests wait.
IN_PARALLEL := --numprocesses $(shell nproc) --dist worksteal

.DEFAULT_GOAL := test
.SUFFIXES:
.PHONY: $(shell sed -n 's/^\([a-z-]*[0-9]*\): .*##.*/\1/p' Makefile)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\): .*## /\1\t/p' Makefile | expand -t 21

# ---- tests and checks

test: test-provider test-emulator ## the default test suites: those of the provider and of the emulator
test-provider: $(VENV)/.ready ## the first of them: tests/unit and tests/simulation
	$(PY) -m pytest $(IN_PARALLEL) $(ARGS)
test-repository: $(VENV)/.ready ## packages, public names and stored shapes, random input
	$(PY) -m pytest $(IN_PARALLEL) --ignore tests/unit --ignore tests/simulation --ignore tests/documentation tests $(ARGS)
test-emulator: $(VENV)-emulator/.ready ## the second, in an environment without Airflow
	$(EMULATOR_PYTEST) $(IN_PARALLEL) $(ARGS)
test-browser: $(VENV)/.ready $(VENV)-tools/.ready ## the tab, the page and forms. Installs Chromium if it is missing
	POLYSYNC_DOCS_PYTHON="$(CURDIR)/$(VENV)-tools/bin/python" \
	    $(PY) -m pytest -m 'system and not nightly' tests/documentation tests/browser $(ARGS)
test-accessibility: $(VENV)/.ready .venv-node/.ready ## the UI with axe-core. Installs Chromium and Node.js
	POLYSYNC_AXE="$(CURDIR)/.venv-node/node_modules/axe-core/axe.min.js" \
	    $(PY) -m pytest -m system tests/browser/test_accessibility.py $(ARGS)
test-system: $(VENV)/.ready $(VENV)-emulator/.ready ## what starts an Airflow, and `polysync verify`. Installs Chromium
	$(PY) -m pytest -m 'system and not nightly' tests/system $(ARGS)
	$(EMULATOR_PYTEST) -m system tests/verify $(ARGS)
test-clients: export POLYSYNC_SDK2_PYTHON := $(CURDIR)/$(VENV)-sdk2/bin/python
test-clients: export POLYSYNC_SDK3_PYTHON := $(CURDIR)/$(VENV)-sdk3/bin/python
test-clients: export POLYSYNC_AWS_CLI := $(CURDIR)/$(VENV)-sdk2/bin/aws
test-clients: export POLYSYNC_NODE_MODULES := $(CURDIR)/.venv-node/node_modules
test-clients: install-clients $(VENV)/.ready ## the emulator with SageMaker's Python SDK, the AWS CLI, boto3 and the JavaScript SDK
	$(EMULATOR_PYTEST) -m clients $(IN_PARALLEL) tests/clients $(ARGS)
	$(PY) -m pytest -m clients $(IN_PARALLEL) tests/clients $(ARGS)
test-aiobotocore: $(VENV)-aiobotocore/.ready ## what botocore can change, with the older one that aiobotocore requires
	$(VENV)-aiobotocore/bin/python -m pytest $(IN_PARALLEL) tests/unit/aws tests/unit/auth tests/unit/test_hooks.py \
	    tests/unit/operators/contract tests/comparison $(ARGS)
test-docs: $(VENV)/.ready ## compare the pages with the code, run the example DAGs and all examples, follow links
	$(PY) -m pytest -m 'not nightly and not system' $(IN_PARALLEL) tests/documentation $(ARGS)
lint: $(VENV)/.ready ## check formatting, lint rules, types and workflows
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	cd emulator && ../$(VENV)/bin/mypy
	$(VENV)/bin/zizmor --offline --quiet --strict-collection .github
docs: $(VENV)-tools/.ready ## build the documentation: site/index.html; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)-tools/bin/python -m mkdocs build --strict $(ARGS)
licences: $(VENV)-licences/.ready ## check the licences of all packages that users install with these
	$(VENV)-licences/bin/pip-licenses $(ARGS)
release: $(VENV)-tools/.ready ## build wheels, sdists, SBOMs and hashes into dist/, and run the demo from the wheels
	@$(VENV)-tools/bin/python -m tests.packaging.release
lowest: $(VENV)-lowest/.ready ## import all modules with the lowest versions of the requirements, and run the demo with them
	@$(VENV)-lowest/bin/python -m tests.packaging.lowest_versions
	@$(VENV)-lowest/bin/python -m tests.system.demo
nightly: ## what is slow and seldom fails: tests marked `nightly`, mutants, matrix, random cases, clients, chaos, costs
	@.ci/nightly

# ---- programs of tests/

demo: RUN = tests.system.demo $(if $(KEEP),--keep) ## run a pipeline from a private Airflow; KEEP=1 keeps its UI
mutants: RUN = tests.mutants ## change the pure cores, and show the changes that no test of theirs notices
mutants-drivers: RUN = tests.mutants --drivers ## the same for a tenth of the drivers each day, in 90 minutes at most
screenshots: RUN = tests.documentation.screenshots ## make the pictures of the UI in docs/images/. Installs Chromium
recording: RUN = tests.chaos.recording ## make the animated picture of the README: a worker is killed
import-cost: RUN = tests.packaging.import_cost ## what an import of the operators costs each time a DAG file is parsed
parse-cost: RUN = tests.packaging.parse_cost ## what a DAG file costs: a DAG for each job, a task for each step
matrix: RUN = tests.matrix ## the same package on Airflow 2.11, 3.2, 3.3 and the pre-release of 3.4
chaos: RUN = tests.chaos ## kill and restart processes of an Airflow. Installs PostgreSQL and Redis if they are missing
exhaustion: RUN = tests.exhaustion ## take from an Airflow what it needs: disk, descriptors, memory, time, names. As root
simulation: RUN = tests.simulation ## whole deployments in virtual time: ARGS="search 0 400", "replay 7", "shrink 7"
bench-page: RUN = tests.benchmarks.page_benchmark ## the page of all executions, with 10,000 of them
bench-summaries: RUN = tests.benchmarks.summary_load ## many summaries of the page at once, with large XComs planted
bench-marks: RUN = tests.benchmarks.mark_cost ## what a mark of a DAG run with 1,000 tasks pays
bench-events: RUN = tests.system.events ## how soon a DAG starts after an event, and what a killed triggerer loses
demo mutants mutants-drivers screenshots recording import-cost parse-cost matrix chaos exhaustion simulation bench-page \
    bench-marks bench-summaries bench-events: $(VENV)/.ready
	@$(PY) -m $(RUN) $(ARGS)

chaos-amazon: RUN = tests.chaos --provider amazon ## make chaos, for the operators of the Amazon provider. ARGS=--job: for a training job
compare: RUN = tests.comparison ## both providers in the same cases
bench: RUN = tests.benchmarks $(if $(ARGS),,everything) ## all benchmarks, some hours. ARGS=-h lists them
bench-sign-in: RUN = tests.benchmarks sign-in ## how long 200 triggers that sign in stall a triggerer, in both providers
chaos-amazon compare bench bench-sign-in: $(VENV)-aiobotocore/.ready
	@$(VENV)-aiobotocore/bin/python -m $(RUN) $(ARGS)

# ---- environments

install: $(VENV)/.ready $(VENV)-emulator/.ready ## create the environments of the default suites
install-aiobotocore: $(VENV)-aiobotocore/.ready ## create the environment of the Amazon provider with aiobotocore
install-clients: $(VENV)-emulator/.ready $(VENV)-sdk2/.ready $(VENV)-sdk3/.ready .venv-node/.ready ## for test-clients

# emulator/docs/clients-and-services.md lists the same versions.
SAGEMAKER_SDK_2 := sagemaker==2.257.7
SAGEMAKER_SDK_3 := sagemaker==3.27.0
AWS_CLI := awscli==1.46.3
JAVASCRIPT_SDK := @aws-sdk/client-sagemaker@3.1142.0

# What is in each environment: EDITABLE projects of this repository, and PACKAGES. The pins and hashes of
# constraints-hashed.txt hold, except those whose names match UNPINNED; without any of these, a package must have one.
GROUPS := lint bench docs mutants licences release install
PROVIDER := -r pyproject.toml --extra entra --extra openlineage
EMULATOR := -r emulator/pyproject.toml
PROJECT := $(PROVIDER) $(EMULATOR) --group test --group chaos
EDITABLE = -e . -e ./emulator
$(VENV)/.ready: PACKAGES = $(PROJECT) --group lint --group mutants
$(VENV)-emulator/.ready: EDITABLE = -e ./emulator
$(VENV)-emulator/.ready: PACKAGES = $(EMULATOR) --group emulator/pyproject.toml:test
# The newest aiobotocore. It requires an exact botocore, from which the versions of boto3 and s3transfer follow.
$(VENV)-aiobotocore/.ready: PACKAGES = $(PROJECT) --group bench \
    'apache-airflow-providers-amazon[aiobotocore]' aiobotocore==3.10.0
$(VENV)-aiobotocore/.ready: UNPINNED = aiobotocore|boto3|botocore|s3transfer
# The SDK's dependencies conflict with Airflow's.
$(VENV)-sdk2/.ready $(VENV)-sdk3/.ready: UNPINNED = .*
$(VENV)-sdk2/.ready $(VENV)-sdk3/.ready $(VENV)-tools/.ready $(VENV)-constraints/.ready: EDITABLE =
$(VENV)-sdk2/.ready: PACKAGES = $(SAGEMAKER_SDK_2) $(AWS_CLI)
# One of the excluded packages would bring docker.
$(VENV)-sdk3/.ready: PACKAGES = $(SAGEMAKER_SDK_3) docker --excludes emulator/tests/clients/sdk3-excludes.txt
# Tools: the documentation is made from the sources, and a release makes environments of its own for the wheels.
$(VENV)-tools/.ready: PACKAGES = --group docs --group release
# What users install, with all extras, and nothing else.
$(VENV)-licences/.ready: PACKAGES = $(PROVIDER) $(EMULATOR) --group licences
# The lowest Airflow is one of 2.11, whose other providers must be as old; its demo needs PostgreSQL.
$(VENV)-lowest/.ready: PACKAGES = --resolution lowest-direct $(PROVIDER) --extra testing $(EMULATOR) \
    apache-airflow-providers-common-io==1.10.1 apache-airflow-providers-common-sql==1.32.0 \
    apache-airflow-providers-http==6.0.4 psycopg2-binary==2.9.13
$(VENV)-lowest/.ready: UNPINNED = .*
$(VENV)-constraints/.ready: PACKAGES = $(PROJECT) $(GROUPS:%=--group %) --upgrade pip setuptools
$(VENV)-constraints/.ready: UNPINNED = .*

# uv installs several times as fast as pip. Behind a company's proxy, only the system knows the certificates.
OTHERS := emulator aiobotocore sdk2 sdk3 tools licences lowest constraints
UV_INSTALL = $(@D)/bin/python -m uv pip install --quiet --system-certs --compile-bytecode --python $(@D)/bin/python
$(VENV)/.ready $(OTHERS:%=$(VENV)-%/.ready): Makefile constraints-hashed.txt pyproject.toml emulator/pyproject.toml \
    polysync_airflow/__init__.py emulator/sagemaker_emulator/__init__.py
	@echo "Creating $(@D), which takes about a minute ..."
	@test -x $(@D)/bin/python || $(INTERPRETER) -m venv $(@D)
	@sed -n '/^uv==/p' constraints-hashed.txt > $(@D)/uv.txt
	@$(@D)/bin/python -m pip install --quiet --require-hashes --requirement $(@D)/uv.txt
	@sed -E '/^($(UNPINNED))==/d' constraints-hashed.txt > $(@D)/constraints.txt
	@$(if $(EDITABLE),$(UV_INSTALL) --no-deps --build-constraint constraints-hashed.txt $(EDITABLE))
	@$(UV_INSTALL) $(if $(UNPINNED),,--require-hashes) --constraint $(@D)/constraints.txt $(PACKAGES)
	@touch $@

INSTALL_NPM := 'from tests.chaos.deployment.packages import PackageInstaller; PackageInstaller("npm").install("npm")'
.venv-node/.ready: Makefile | $(VENV)/.ready
	@command -v npm > /dev/null || $(PY) -c $(INSTALL_NPM)
	@echo "Creating $(@D) ..."
	@mkdir -p $(@D)
	@npm install --prefix $(@D) --no-save --no-package-lock --no-audit --no-fund --loglevel error \
	    $(JAVASCRIPT_SDK) axe-core@4.14.1
	@touch $@

constraints: ## write constraints.txt again, from the newest releases, and constraints-hashed.txt
	rm -rf $(VENV)-constraints
	$(MAKE) $(VENV)-constraints/.ready
	$(VENV)-constraints/bin/python -m uv pip list --format freeze --exclude-editable > constraints.txt
	# Airflow requires libcst, which requires this on Python 3.13 only.
	echo pyyaml-ft | $(VENV)-constraints/bin/python -m uv pip compile --quiet --system-certs --no-deps --no-annotate \
	    --no-header --no-emit-index-url --python-version 3.13 - >> constraints.txt
	$(VENV)-constraints/bin/python -m uv pip compile --quiet --system-certs --no-deps --no-annotate --no-header \
	    --no-emit-index-url --python-version 3.13 --generate-hashes --output-file $(VENV)-constraints/hashed.txt \
	    constraints.txt
	sed -e :a -e '/\\$$/{N;s/ *\\\n */ /;ta' -e '}' $(VENV)-constraints/hashed.txt > constraints-hashed.txt
	rm -rf $(VENV)-constraints
clean: ## remove the environments
	rm -rf .venv .venv-* mutants
