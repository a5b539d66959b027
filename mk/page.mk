# The status page in a real browser: `make test-page`. Pictures of it go to build/page/.
# Playwright drives Debian's Chromium, which `make setup` installs where it can.

PYTHON ?= python3
PAGE_VENV := build/venv-page
BROWSER := $(shell command -v chromium || command -v google-chrome)

.PHONY: test-page

$(PAGE_VENV)/ready: tests/page/requirements.txt
	$(PYTHON) -m venv --clear $(PAGE_VENV)
	$(PAGE_VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

ifeq ($(BROWSER),)
test-page: ## test the status page in a browser
	@echo '*** SKIPPED: the status page was not tested: no chromium (make setup installs it as root)'
else
test-page: $(PAGE_VENV)/ready
	$(CARGO) build --quiet --lib --bins
	cd tests/page && ../../$(PAGE_VENV)/bin/pytest -q $(PYTEST_FLAGS)
endif
