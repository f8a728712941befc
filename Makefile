# Two commands: `make quickstart` sets up and runs the main job, `make test` sets up and runs the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BENCHMARKS := learner loop cores environments scaling encoder phases schedule

.PHONY: quickstart experts test test-slow test-machines check attack tables site package bench smoke clean

quickstart: $(VENV)/.installed
	$(BIN)/collectiverl run --preset quickstart

experts: $(VENV)/.installed
	$(BIN)/collectiverl run --preset mt10 --until experts

smoke: $(VENV)/.installed
	$(BIN)/collectiverl run --preset smoke

test: $(VENV)/.installed-dev
	$(BIN)/pytest

test-slow: $(VENV)/.installed-dev
	$(BIN)/pytest -m slow

# Four machines of Ray and a server of S3, in an environment of their own: s3fs needs an older python-dateutil.
test-machines: $(VENV)-s3/.installed
	$(VENV)-s3/bin/pytest -n 0 -m slow tests/test_cluster.py tests/test_remote.py

$(VENV)-s3/.installed: pyproject.toml constraints.txt
	test -d $(VENV)-s3 || $(PYTHON) -m venv $(VENV)-s3
	grep -v '^python-dateutil' constraints.txt > $(VENV)-s3/constraints.txt
	PIP_CONSTRAINT=$(VENV)-s3/constraints.txt $(VENV)-s3/bin/pip install --quiet -e '.[envpool,dev,ray,s3,slurm]' \
		'moto[s3]' flask flask-cors psutil
	touch $@

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/pylint --disable=all --enable=duplicate-code --min-similarity-lines=8 src

attack: $(VENV)/.installed-dev
	$(BIN)/python -m attacks

$(VENV)/.installed: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[envpool]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[envpool,dev]'
	touch $@ $(VENV)/.installed

tables: $(VENV)/.installed-dev
	$(BIN)/python -m results.tables

site: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

package: $(VENV)/.installed-dev
	.ci/package

bench: $(VENV)/.installed-bench
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit; done

$(VENV)/.installed-bench: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[envpool,bench]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist site *.egg-info
