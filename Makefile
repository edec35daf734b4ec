# ngx-gateway: `make help` says what there is. Each target does all that it needs, from nothing.

SHELL := /bin/bash
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

NGINX       ?= /usr/sbin/nginx
MODULES_DIR ?= /usr/lib/nginx/modules
CONF_DIR    ?= /usr/share/nginx/modules-available
ENABLED_DIR ?= /etc/nginx/modules-enabled
CARGO       := timeout 2400 cargo
MODULE      := target/ngx_http_gateway_module.so

export TEST_NGINX_BINARY ?= $(NGINX)

FUZZ_SECONDS ?= 300

.PHONY: help deps nginx-tree nginx-1.28 module build run schema sim test test-rust test-nginx test-nginx-1.28 bench fuzz deep deep-sanitized deep-valgrind lint lint-rust lint-scripts install clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what is missing (apt, rustup); nothing if all is there
	@.ci/deps build test

nginx-tree: deps ## configured nginx sources in target/nginx, against which the module is compiled
	@.ci/nginx-tree target/nginx

OTHER := $(CURDIR)/target/nginx-1.28

nginx-1.28: deps ## a second nginx in target/nginx-1.28, with HTTP/3, and the module (debug) for it
	@.ci/nginx-build $(OTHER)
	NGINX_BUILD_DIR=$(OTHER)/objs $(CARGO) build --locked -p ngx-http-gateway-module
	$(CARGO) build --locked --bin gatewayctl
	@cp target/debug/gatewayctl $(OTHER)/
	@cp target/debug/libngx_http_gateway_module.so $(OTHER)/module.new && mv $(OTHER)/module.new $(OTHER)/ngx_http_gateway_module.so

module: nginx-tree ## target/ngx_http_gateway_module.so for the installed nginx
	$(CARGO) build --locked --release -p ngx-http-gateway-module
	@# By rename: nginx may have the old file mapped.
	@cp target/release/libngx_http_gateway_module.so $(MODULE).new && mv $(MODULE).new $(MODULE)

build: module ## library and module
	$(CARGO) build --locked --release

run: module ## the demo on 127.0.0.1:8080; Ctrl-C stops all of it
	@conf/demo/run

schema: deps ## conf/gateway.schema.json, the document's form as JSON Schema
	$(CARGO) run --locked --quiet --bin gatewayctl -- schema > target/gateway.schema.json
	@mv target/gateway.schema.json conf/gateway.schema.json

SIM_SECONDS ?= 60

sim: deps ## the simulator, one seed after another for SIM_SECONDS=60
	$(CARGO) run --locked --release --quiet --bin gateway-sim -- soak --seconds $(SIM_SECONDS) --seed $$(date +%s)

test: test-rust test-nginx test-nginx-1.28 ## everything that can fail

test-rust: deps ## the library alone: no nginx
	$(CARGO) test --locked

# Files have ports and folders of their own and mostly wait; a story loads the machine and measures, so it runs alone.
PROVE := failed=0; timeout 900 prove -j2 t/*.t || failed=1; timeout 900 prove t/story/*.t || failed=1; exit $$failed

test-nginx: module ## t/: a real nginx with the module
	$(PROVE)

test-nginx-1.28: nginx-1.28 ## t/ on the second nginx
	TEST_NGINX_BINARY=$(OTHER)/objs/nginx GATEWAY_MODULE=$(OTHER)/ngx_http_gateway_module.so; \
	export TEST_NGINX_BINARY GATEWAY_MODULE; $(PROVE)

bench: module ## side by side with a bare proxy_pass; writes target/bench.json
	@.ci/deps bench
	timeout 1200 benches/e2e --out target/bench.json
	@# System calls and pool bytes a request; fails where the gateway makes more calls than a bare proxy_pass.
	timeout 300 benches/costs --out target/costs.json
	@# Each decision alone: nanoseconds, then instructions.
	$(CARGO) bench --locked --bench decisions
	@# Fails above the bounds in benches/instructions.toml.
	timeout 1200 benches/instructions
	@# Fails above 400 MB.
	timeout 300 benches/memory

fuzz: deps ## libFuzzer on paths, hosts, router, document, auth: FUZZ_SECONDS=300 each
	@tests/fuzz/run $(FUZZ_SECONDS)

deep: deep-sanitized deep-valgrind fuzz sim ## hours, by night: t/ under sanitizers, reloads under valgrind, fuzz, simulator

SANITIZED := $(CURDIR)/target/nginx-sanitized

deep-sanitized: deps ## t/ on an nginx under ASAN and UBSAN, the module under ASAN too
	@.ci/nginx-build $(SANITIZED) sanitized
	@# The compiler is a stable one, and the sanitizer stands behind -Z. Not for build scripts: hence --target.
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address NGINX_BUILD_DIR=$(SANITIZED)/objs $(CARGO) build --locked \
	    -p ngx-http-gateway-module --target $(HOST) --target-dir target/sanitized
	@tests/deep/sanitized $(SANITIZED)/objs/nginx target/sanitized/$(HOST)/debug/libngx_http_gateway_module.so

deep-valgrind: nginx-1.28 ## ten reloads under valgrind: nothing definitely lost
	@.ci/deps deep
	tests/deep/reloads $(OTHER)/objs/nginx $(OTHER)/ngx_http_gateway_module.so

HOST = $(shell rustc -vV | sed -n 's/^host: //p')

lint: lint-rust lint-scripts ## format, clippy, layering, licences, perl, shell

lint-rust: nginx-tree
	cargo fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked -p ngx-http-gateway-module -p gateway-lua -- -D warnings
	@# The fuzz targets, so that they do not rot; tests/fuzz.rs runs them.
	$(CARGO) check --locked --no-default-features --manifest-path tests/fuzz/Cargo.toml --target-dir target
	@if [ -f tests/layering.rs ]; then $(CARGO) test --locked --test layering; fi
	@if cargo deny --version > /dev/null 2>&1; then timeout 300 cargo deny check; \
	 else echo "cargo-deny is not installed: licences not checked"; fi

SCRIPTS := .ci/run .ci/deps .ci/nginx-tree .ci/nginx-build conf/demo/run conf/demo/check docker/chroot-test tests/fuzz/run tests/deep/sanitized

lint-scripts: deps
	@for f in t/lib/Test/Nginx/*.pm t/Gateway.pm; do perl -It -It/lib -c $$f || exit 1; done
	python3 -c 'import ast, sys; [ast.parse(open(f).read(), f) for f in sys.argv[1:]]' benches/e2e benches/costs benches/servers.py benches/instructions benches/memory conf/demo/backends t/story/story.py t/lib/issuer t/lib/http3 tests/deep/reloads
	@if command -v shellcheck > /dev/null; then shellcheck $(SCRIPTS); \
	 else echo "shellcheck is not installed: scripts get a syntax check alone"; for f in $(SCRIPTS); do bash -n $$f || exit 1; done; fi

install: module ## module and load_module line where Debian's nginx looks for them (root)
	install -D -m 644 $(MODULE) $(DESTDIR)$(MODULES_DIR)/ngx_http_gateway_module.so
	install -d $(DESTDIR)$(CONF_DIR) $(DESTDIR)$(ENABLED_DIR)
	echo 'load_module modules/ngx_http_gateway_module.so;' > $(DESTDIR)$(CONF_DIR)/mod-http-gateway.conf
	@# Before 50-mod-http-lua.conf: our workers must have the zone when Lua's init_worker runs.
	ln -sf $(CONF_DIR)/mod-http-gateway.conf $(DESTDIR)$(ENABLED_DIR)/40-mod-http-gateway.conf

clean: ## everything that was built
	rm -rf target t/servroot*
