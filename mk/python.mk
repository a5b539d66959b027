# The Python package: tests, checks and the wheel. Included by the Makefile.
#
# `make test-python BATOND=path` tests against another build of the daemon and the library beside it;
# PYTEST_FLAGS goes to pytest.

CARGO ?= cargo
PYTHON ?= python3
STRIP ?= strip

PY_VENV := build/venv
PY_WHEEL_VENV := build/venv-wheel
PY_LIBRARY := build/wheel/libbaton.so.0

.PHONY: test-python lint-python wheel test-wheel

$(PY_VENV)/ready: python/requirements-dev.txt
	$(PYTHON) -m venv --clear $(PY_VENV)
	$(PY_VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

test-python: $(PY_VENV)/ready ## test the Python package against a real server
	$(if $(BATOND),,$(CARGO) build --quiet --lib --bin batond)
	cd python && $(if $(BATOND),BATOND=$(abspath $(BATOND))) ../$(PY_VENV)/bin/pytest -q $(PYTEST_FLAGS)

lint-python: $(PY_VENV)/ready ## check the Python package's types and style
	cd python && ../$(PY_VENV)/bin/mypy baton build_wheel.py conftest.py
	cd python && ../$(PY_VENV)/bin/ruff check --quiet . && ../$(PY_VENV)/bin/ruff format --check --quiet .

wheel: $(PY_VENV)/ready ## build dist/baton-*.whl with the C library inside
	$(CARGO) build --release --lib
	mkdir -p $(dir $(PY_LIBRARY)) dist
	$(STRIP) --strip-unneeded -o $(PY_LIBRARY) $(BUILD_DIR)/release/libbaton.so
	rm -f dist/baton-*.whl
	cd python && BATON_WHEEL_LIBRARY=$(abspath $(PY_LIBRARY)) \
		../$(PY_VENV)/bin/hatchling build --target wheel --directory ../dist

# In a directory without the sources, so that `import baton` can only be the installed one.
test-wheel: wheel ## test the wheel, installed in an environment of its own
	$(CARGO) build --release --bin batond
	$(PYTHON) -m venv --clear $(PY_WHEEL_VENV)
	$(PY_WHEEL_VENV)/bin/pip install --quiet --disable-pip-version-check \
		-r python/requirements-dev.txt dist/baton-*.whl
	$(PY_WHEEL_VENV)/bin/pip install --quiet --disable-pip-version-check auditwheel
	tag=$$(ls dist/baton-*.whl | sed 's/.*-//; s/\.whl//'); \
		$(PY_WHEEL_VENV)/bin/auditwheel show dist/baton-*.whl | tr -d '\n' | grep -q "platform tag: *\"$$tag\"" || \
		{ $(PY_WHEEL_VENV)/bin/auditwheel show dist/baton-*.whl; echo "the wheel's tag $$tag is not what it needs"; exit 1; }
	rm -rf build/wheel-test && mkdir -p build/wheel-test
	cp -r python/tests python/conftest.py python/pyproject.toml build/wheel-test/
	cd build/wheel-test && BATON_LIBRARY= BATOND=$(abspath $(BUILD_DIR)/release/batond) \
		../venv-wheel/bin/pytest -q $(PYTEST_FLAGS) tests
