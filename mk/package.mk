# Packages. docs/OPERATIONS.md says what is in them.
#
#   make deb        Debian packages, in dist/deb/; make test-deb installs, uses and removes them in a
#                   root made by debootstrap
#   make dist       the sources as a tarball, the same bytes for the same commit; with the SBOM where
#                   cargo-cyclonedx is there
#   make static     a batond that needs no shared library
#   make deny       licences, sources and known holes of the crates (cargo-deny)
#   make licences   brings THIRD-PARTY-LICENSES.txt up to date; CI checks it
# and mk/python.mk's wheel and test-wheel.

DEB_TREE := build/deb/baton-$(VERSION)
DEB_TOOLS := dpkg-buildpackage dh dh_python3
STRIP ?= strip
MUSL := x86_64-unknown-linux-musl
DATE = $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
HAS = $(shell command -v $(1) 2>/dev/null)

.PHONY: deb test-deb deb-tools dist sbom static deny licences licences-check test-packages

deb-tools: ## install what make deb and test-deb need (Debian)
	apt-get -qq update
	apt-get -qq install -y --no-install-recommends debhelper dh-python dpkg-dev fakeroot lintian debootstrap

deb: ## build the Debian packages, in dist/deb/
	@for tool in $(DEB_TOOLS); do command -v $$tool >/dev/null || \
		{ echo "make deb: no $$tool: make deb-tools installs it" >&2; exit 1; }; done
	$(if $(NO_BUILD),,$(CARGO) build --release --locked)
	rm -rf build/deb dist/deb && mkdir -p $(DEB_TREE) dist/deb
	cp -r CHANGELOG.md LICENSE* THIRD-PARTY-LICENSES.txt Cargo.toml baton.pc.in include mk packaging python \
		tools docs c-examples $(DEB_TREE)/
	find $(DEB_TREE) -name __pycache__ -prune -exec rm -rf {} +
	cp -r packaging/debian $(DEB_TREE)/debian
	{ echo 'baton ($(VERSION)-1) unstable; urgency=medium'; echo; \
	  echo '  * See CHANGELOG.md, here as changelog.gz.'; echo; \
	  echo " -- The Baton authors <baton-lock@users.noreply.github.com>  $$(date -u -R -d @$(DATE))"; } > $(DEB_TREE)/debian/changelog
	cd $(DEB_TREE) && SOURCE_DATE_EPOCH=$(DATE) BUILT=$(abspath $(BUILT)) dpkg-buildpackage -us -uc -b -d -rfakeroot >../log 2>&1 || \
		{ tail -n 40 ../log; exit 1; }
	cp build/deb/*.deb dist/deb/
	@ls -l dist/deb
	@command -v lintian >/dev/null || echo '*** SKIPPED: no lintian: the packages were not checked'
	! command -v lintian >/dev/null || lintian --allow-root --fail-on error --tag-display-limit 0 build/deb/*.changes

test-deb: deb ## install, use and remove the packages in a root of their own
	packaging/test-deb.sh dist/deb build/deb/root

dist: ## the sources as a tarball, in dist/
	mkdir -p dist
	git archive --format=tar --prefix=baton-$(VERSION)/ HEAD | gzip -9n > dist/baton-$(VERSION).tar.gz
	@git diff --quiet HEAD || echo 'make dist: what is not committed is not in it'
	@$(MAKE) sbom
	cd dist && sha256sum baton-$(VERSION).tar.gz $$(ls baton-$(VERSION).cdx.json 2>/dev/null) > SHA256SUMS
	@cat dist/SHA256SUMS

sbom:
ifeq ($(call HAS,cargo-cyclonedx),)
	@echo '*** SKIPPED: no SBOM without cargo-cyclonedx: cargo install cargo-cyclonedx'
else
	mkdir -p dist
	SOURCE_DATE_EPOCH=$(DATE) $(CARGO) cyclonedx --quiet --format json --target x86_64-unknown-linux-gnu \
		--override-filename baton-$(VERSION).cdx
	mv baton-$(VERSION).cdx.json dist/
endif

static: ## a batond without shared libraries, in dist/
	@rustc --print target-libdir --target $(MUSL) | xargs test -d || \
		{ echo 'make static: rustup target add $(MUSL), and Debian package musl-tools' >&2; exit 1; }
	$(CARGO) build --release --locked --bin batond --target $(MUSL)
	mkdir -p dist && $(STRIP) -o dist/batond-static $(BUILD_DIR)/$(MUSL)/release/batond
	! ldd dist/batond-static 2>/dev/null | grep '=>'

deny: ## check licences, sources and known holes of the crates
ifeq ($(call HAS,cargo-deny),)
	@echo '*** SKIPPED: the crates were not checked: cargo install cargo-deny'
else
	$(CARGO) deny check licenses bans sources
	$(CARGO) deny check advisories || \
		{ $(CARGO) deny fetch db 2>/dev/null && exit 1; echo '*** SKIPPED: known holes: no way to the RustSec database'; }
endif

licences: ## bring THIRD-PARTY-LICENSES.txt up to date
	$(PYTHON) tools/licences.py

licences-check:
	$(PYTHON) tools/licences.py --check

# What CI can do of it in little time: nothing here builds for release.
test-packages: licences-check
	@echo 'packages: make deb, test-deb, test-wheel, static, dist and deny build and test them'
