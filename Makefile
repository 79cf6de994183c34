# Every target does its own set-up from a bare checkout; `make help` lists them.
CARGO ?= cargo
DATA_DIR ?= var
UP_FLAGS ?=
MODE ?= single
KILLS ?= 200
SECONDS ?= 900
SEED ?=

.DEFAULT_GOAL := help
.PHONY: help build run test check lint compliance bench bench-million torture broker scim2-server

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

broker: ## fetch nats-server into target/tools unless a new enough one is on PATH
	@tools/fetch-nats-server

scim2-server: ## fetch scim2-server, a SCIM server of others that the tests use as an app, into target/tools
	@tools/scim2-server

build: broker ## build everything, start nothing
	$(CARGO) build --locked --release --bin rollcall

run: build ## start everything on this machine: broker, gateway, projector, dispatcher, a demo app
	exec target/release/rollcall up --data-dir $(DATA_DIR) $(UP_FLAGS)

test: broker scim2-server ## all tests, against a real broker and a SCIM server of others
	$(CARGO) build --locked --workspace --all-targets
	$(CARGO) test --locked --workspace --no-fail-fast

lint: ## what `check` does besides the tests: format, clippy, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

check: lint test ## everything CI runs

compliance: broker ## scim2-tester, a compliance suite of others, against a gateway of its own
	$(CARGO) build --locked --bin rollcall
	tools/compliance

bench: broker ## the benchmarks, in release mode; GROUP=scim for one of them, GROUP="projection 20000 inside" for a part
	$(CARGO) build --locked --release --bin rollcall
	$(CARGO) run --locked --release -p street --bin bench -- $(GROUP)

bench-million: ## the directory of a million people: apply, rebuild, open, ask it inside the process and over HTTP
	$(MAKE) bench GROUP="projection-million"

torture: broker ## clients write while processes are killed; MODE=single or cluster, KILLS, SECONDS, SEED
	$(CARGO) build --locked --release --bin rollcall
	$(CARGO) run --locked --release -p street --bin torture -- --mode $(MODE) --kills $(KILLS) --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))
