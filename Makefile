# TumorApp's commands. They need GNU make, /bin/sh and Python 3.11, 3.12 or 3.13; everything else is
# installed into .venv/. `make` alone lists them.

PYTHON ?= python3
# Not taken from the environment, where some shells set it to the machine's name.
HOST = 127.0.0.1
PORT ?= 8000
ARGS ?=

serve := .venv/serve
dev := .venv/dev

# One argument order for all compiled files; the widest is compiled first and constrains the rest,
# so that a package has the same version wherever it appears.
compile := $(dev)/bin/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(ARGS)

pybabel := $(dev)/bin/python -m babel.messages.frontend --quiet
catalogues := tumorapp/language/translations

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run dev test lint format lock audit bench lighthouse translations verify-image clean

help: ## list these commands
	@echo 'Usage: make COMMAND [PYTHON=python3.12] [ARGS="…"]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  %-14s%s\n' "$$name" "$$text"; \
	done

run: $(serve)/installed ## serve the page and the API; HOST= and PORT= choose the address
	@exec env HOST='$(HOST)' PORT='$(PORT)' $(serve)/bin/python -m gunicorn --config gunicorn.conf.py $(ARGS) wsgi:app

dev: $(dev)/installed ## build .venv/dev, which has every command of flask, TensorFlow and the tests
	@echo '$(dev) is ready. Next: . $(dev)/bin/activate, then flask --help lists the commands; or make test.'

test: $(dev)/installed ## run the tests; ARGS= goes to pytest
	@$(dev)/bin/python -m pytest -n auto --dist worksteal $(ARGS)

lint: $(dev)/installed ## check style, formatting, types and the direction of imports
	$(dev)/bin/python -m ruff check
	$(dev)/bin/python -m ruff format --check
	$(dev)/bin/python -m mypy
	$(dev)/bin/lint-imports

format: $(dev)/installed ## fix style and formatting
	$(dev)/bin/python -m ruff check --fix
	$(dev)/bin/python -m ruff format

lock: $(dev)/installed ## compile requirements*.txt from requirements*.in; ARGS=--upgrade takes newer versions
	$(compile) requirements-dev.in -o requirements-dev.txt
	$(compile) -c requirements-dev.txt requirements-gpu.in -o requirements-gpu.txt
	$(compile) -c requirements-dev.txt requirements-serve.in requirements.in -o requirements.txt
	$(compile) -c requirements-dev.txt requirements-serve.in requirements.in requirements-ray.in -o requirements-ray.txt
	$(compile) -c requirements-dev.txt requirements-serve.in -o requirements-serve.txt

audit: $(dev)/installed ## check the packages for serving, training and Ray against PyPI's advisories
	@$(dev)/bin/python -m deploy.audit requirements-serve.txt requirements-ray.txt

bench: $(dev)/installed ## measure scan preparation and serving; ARGS= goes to the benchmarks
	@$(dev)/bin/python -m benchmarks $(ARGS)

lighthouse: $(dev)/installed ## measure the pages with Lighthouse (needs npm and Chromium); ARGS= names pages
	@$(dev)/bin/python -m benchmarks.lighthouse $(ARGS)

translations: $(dev)/installed ## update and compile the catalogues of the pages' texts
	$(pybabel) extract --mapping babel.cfg --keyword 'mark translate' --add-location file --no-wrap \
		--project TumorApp --copyright-holder 'the authors' --output .venv/messages.pot .
	$(pybabel) update --input-file .venv/messages.pot --output-dir $(catalogues) --no-fuzzy-matching \
		--no-wrap --ignore-obsolete --ignore-pot-creation-date
	$(pybabel) compile --directory $(catalogues)

verify-image: $(dev)/installed ## build the Dockerfile's serve stage without Docker and request a prediction
	@$(dev)/bin/python -m deploy.verify_serve_image

clean: ## remove the environments and every cache; data, runs and bundles stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment whose Python has been removed or replaced is made again.
$(shell for stamp in .venv/*/installed; do test -x "$${stamp%installed}bin/python" || rm -f "$$stamp"; done)

$(dev)/installed: downloads = It downloads about 3.3 GB, most of it TensorFlow.

# The stamp is written last, so an interrupted installation is done again by the next call.
$(serve)/installed: requirements-serve.txt
$(dev)/installed: requirements-dev.txt
.venv/%/installed:
	@$(check_python)
	@echo "Installing $< into $(@D) (once; it is reused until that file changes).$(if $(downloads), $(downloads))"
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

define check_python
found=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') || found='no Python that runs'; \
case "$$found" in \
3.11 | 3.12 | 3.13) ;; \
*) \
	echo "TumorApp needs Python 3.11, 3.12 or 3.13, but '$(PYTHON)' is: $$found." >&2; \
	echo "Name another one, for example: make run PYTHON=python3.12" >&2; \
	exit 1 ;; \
esac; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "'$(PYTHON)' ($$found) cannot make virtual environments: its venv module is incomplete." >&2; \
	echo "On Debian and Ubuntu: apt-get install python$$found-venv (or python3-venv)." >&2; \
	exit 1; \
}
endef
