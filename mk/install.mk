# Installing. Included by the Makefile.
#
#   make install     library, headers, baton.pc, programs, manual pages and unit, below PREFIX; an
#                    /etc/baton/batond.toml unless there is one
#   make uninstall   removes exactly these
#   make headers     brings include/*.h up to date with the sources; part of `make fix`
#
# PREFIX is where they will be used (default /usr/local), DESTDIR a directory to put in front of it
# while packaging. `make install NO_BUILD=1` installs what `cargo build --release` has built before,
# for a root user without cargo.

CARGO ?= cargo
PYTHON ?= python3
INSTALL ?= install

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
DESTDIR ?=

BUILT ?= $(BUILD_DIR)/release
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# Also in build.rs: the number changes when linked programs would break.
SONAME := libbaton.so.0
HEADERS := rpc.h udp.h spinlock.h
MAN_BUILT := build/man

.PHONY: install uninstall headers install-build install-man

install: install-build install-man ## install below PREFIX (DESTDIR for packaging)
	$(INSTALL) -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR)/baton
	$(INSTALL) -m 755 $(BUILT)/baton $(BUILT)/batond $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 755 $(BUILT)/libbaton.so $(DESTDIR)$(LIBDIR)/libbaton.so.$(VERSION)
	ln -sf libbaton.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libbaton.so
	$(INSTALL) -m 644 $(BUILT)/libbaton.a $(DESTDIR)$(LIBDIR)
	$(INSTALL) -m 644 $(addprefix include/,$(HEADERS)) $(DESTDIR)$(INCLUDEDIR)/baton
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' \
		-e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' baton.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/baton.pc
	chmod 644 $(DESTDIR)$(LIBDIR)/pkgconfig/baton.pc
	$(INSTALL) -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERSDIR) $(DESTDIR)$(SYSCONFDIR)/baton
	sed -e 's|@BINDIR@|$(BINDIR)|' -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|' packaging/batond.service.in \
		> $(DESTDIR)$(UNITDIR)/batond.service
	chmod 644 $(DESTDIR)$(UNITDIR)/batond.service
	$(INSTALL) -m 644 packaging/batond.sysusers $(DESTDIR)$(SYSUSERSDIR)/baton.conf
	test -e $(DESTDIR)$(SYSCONFDIR)/baton/batond.toml || \
		$(INSTALL) -m 644 packaging/batond.toml $(DESTDIR)$(SYSCONFDIR)/baton/batond.toml
	$(if $(DESTDIR),,ldconfig 2>/dev/null || true)

install-build:
	$(if $(NO_BUILD),,$(CARGO) build --release --locked)

# Sections 1 and 8 come from the programs, section 3 from the headers.
install-man: install-build
	rm -rf $(MAN_BUILT)
	$(BUILT)/baton man $(MAN_BUILT)
	$(PYTHON) tools/man3.py $(VERSION) $(addprefix include/,$(HEADERS)) $(MAN_BUILT)
	for section in 1 3 8; do \
		$(INSTALL) -d $(DESTDIR)$(MANDIR)/man$$section && \
		$(INSTALL) -m 644 $(MAN_BUILT)/*.$$section $(DESTDIR)$(MANDIR)/man$$section || exit 1; \
	done

uninstall: ## remove what install put there, settings and data excepted
	rm -f $(addprefix $(DESTDIR)$(BINDIR)/,baton batond)
	rm -f $(addprefix $(DESTDIR)$(LIBDIR)/,libbaton.so $(SONAME) libbaton.so.$(VERSION) libbaton.a pkgconfig/baton.pc)
	rm -f $(addprefix $(DESTDIR)$(INCLUDEDIR)/baton/,$(HEADERS))
	rmdir $(DESTDIR)$(INCLUDEDIR)/baton 2>/dev/null || true
	rm -f $(addprefix $(DESTDIR)$(MANDIR)/man1/,baton.1 baton-*.1) $(DESTDIR)$(MANDIR)/man8/batond.8
	rm -f $(addprefix $(DESTDIR)$(MANDIR)/man3/,RPC_*.3 UDP_*.3 spinlock_*.3)
	rm -f $(DESTDIR)$(UNITDIR)/batond.service $(DESTDIR)$(SYSUSERSDIR)/baton.conf

headers: ## bring include/*.h up to date with the sources
	BATON_FIX=1 $(CARGO) test --quiet --test headers committed_headers
