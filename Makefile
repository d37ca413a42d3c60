.DEFAULT_GOAL := help
.PHONY: help demo test bench check check-dx12 check-dxc check-tint deny examples isa isa-update newest-mesa wasm web web-serve web-test

# Without XDG_RUNTIME_DIR the window-system code of the Vulkan loader prints a warning at each start.
RUNTIME = if [ -z "$${XDG_RUNTIME_DIR:-}" ]; then \
	XDG_RUNTIME_DIR=$$(mktemp -d) && export XDG_RUNTIME_DIR && trap 'rm -rf "$$XDG_RUNTIME_DIR"' EXIT; fi

# Cargo flags of optional parts, such as those that scripts/ensure-mpi.sh prints.
FEATURES ?=

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST))

demo: ## Train on the embedded digits; results in runs/demo
	@sh scripts/ensure-vulkan.sh
	@$(RUNTIME); cargo run --release -- train --out runs/demo --overwrite

test: ## Run all tests
	@sh scripts/ensure-vulkan.sh
	@sh scripts/fetch-onnx-cases.sh
	@$(RUNTIME); cargo test --release --workspace $(FEATURES)

bench: ## Benchmark kernels, the savings of freezing and the host overhead; FRAZIL_BENCH_LIGHT=1 for a short run
	@sh scripts/ensure-vulkan.sh
	@$(RUNTIME); cargo bench $(FEATURES)

EXAMPLES = the_question fixed_stencils lottery_ticket gradual_pruning packnet inq stuck_at_faults rigl edge_popup sparse_fine_tuning fine_tune quickstart

examples: ## Run all examples; each one fails if its method does not work
	@sh scripts/ensure-vulkan.sh
	@$(RUNTIME); cargo build --release --examples && for name in $(EXAMPLES); do \
		echo "== $$name"; cargo run -q --release --example $$name || exit 1; done

# With --workspace, cargo selects the same features of dependencies for all targets, and builds each once. After
# `make test`, BUILD_FLAGS="--tests --bins" selects those of the tests, so that nothing is built again.
BUILD = cargo build --release --workspace --quiet $(FEATURES) $(BUILD_FLAGS)
NEWEST = scripts/newest-mesa.sh $${CARGO_TARGET_DIR:-target}/newest-mesa

newest-mesa: ## Compare kernels with the reference on the newest Mesa, whose software driver has cooperative matrices
	@$(RUNTIME); $(BUILD) || exit 1; \
	tests=$$(cargo test --release --workspace $(FEATURES) --test main --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p'); \
	[ -n "$$tests" ] || { echo "the test program was not built"; exit 1; }; \
	frazil="$(NEWEST) $${CARGO_TARGET_DIR:-target}/release/frazil"; \
	cooperative=$$($$frazil devices | grep -o 'cooperative[0-9]*x[0-9]*' | head -n 1); \
	$$frazil check --quiet --baseline tests/baselines/newest-mesa.jsonl \
		--write-baseline $${CARGO_TARGET_DIR:-target}/newest-mesa.jsonl \
		--family subgroup8 $${cooperative:+--family $$cooperative --family $$cooperative-f16} && $(NEWEST) "$$tests" cooperative || code=$$?; \
	if [ "$${code:-0}" = 77 ]; then echo "SKIPPED: the newest driver is not available, see above"; else exit $${code:-0}; fi

ISA = $(BUILD) && sh scripts/isa.sh
ISA_FILES = $${CARGO_TARGET_DIR:-target}/newest-mesa $${CARGO_TARGET_DIR:-target}/release/frazil-isa benches/results/isa.json

isa: ## Compile the kernels for five GPUs with Mesa and compare registers, spills and instructions with the committed ones
	@$(RUNTIME); $(ISA) check $(ISA_FILES) || code=$$?; \
	if [ "$${code:-0}" = 77 ]; then echo "SKIPPED: Mesa's drivers are not available, see above"; else exit $${code:-0}; fi

isa-update: ## Replace the committed registers, spills and instructions; ASSEMBLY=FOLDER writes the assembly there
	@$(RUNTIME); $(ISA) update $(ISA_FILES)

check-tint: ## Compile all shaders with Tint, Chrome's compiler, in a headless Chromium; PIPELINES=N is faster
	@command -v python3 >/dev/null || { echo "SKIPPED: python3 not found"; exit 0; }; \
	texts=$$(mktemp) && trap 'rm -f "$$texts"' EXIT && \
	$(BUILD) --example shaders && $${CARGO_TARGET_DIR:-target}/release/examples/shaders --json "$$texts" >/dev/null || exit 1; \
	python3 scripts/check-tint.py $(if $(PIPELINES),--pipelines $(PIPELINES)) "$$texts" || code=$$?; \
	if [ "$${code:-0}" != 77 ]; then exit $${code:-0}; fi

check-dxc: ## Compile all shaders as HLSL with DXC, one of the two compilers of DX12
	@command -v python3 >/dev/null || { echo "SKIPPED: python3 not found"; exit 0; }; \
	texts=$$(mktemp -d) && trap 'rm -rf "$$texts"' EXIT && \
	$(BUILD) --example shaders && $${CARGO_TARGET_DIR:-target}/release/examples/shaders --hlsl "$$texts" >/dev/null || exit 1; \
	python3 scripts/check-dxc.py $${CARGO_TARGET_DIR:-target}/dxc "$$texts" || code=$$?; \
	if [ "$${code:-0}" != 77 ]; then exit $${code:-0}; fi

check-dx12: ## Run `frazil check` on DX12 under Wine with Microsoft's FXC, given by D3DCOMPILER=FILE
	@sh scripts/check-dx12.sh check || code=$$?; if [ "$${code:-0}" != 77 ]; then exit $${code:-0}; fi

WASM_STD = rustc=$$(sh scripts/wasm-std.sh $${CARGO_TARGET_DIR:-target}/wasm-std) || code=$$?; \
	if [ "$${code:-0}" = 77 ]; then echo "SKIPPED: no standard library for WebAssembly, see above"; exit 0; fi; \
	[ "$${code:-0}" = 0 ] || exit $$code

wasm: ## Check that the library and the page compile to WebAssembly, and their lints
	@$(WASM_STD); set -- --release --target wasm32-unknown-unknown -p frazil -p frazil-web; \
	if [ "$$rustc" = rustc ]; then cargo clippy "$$@" -- -D warnings; else RUSTC=$$rustc cargo check "$$@"; fi

web: ## Build the page that trains in a browser, into web/dist
	@sh scripts/web.sh || code=$$?; if [ "$${code:-0}" != 77 ]; then exit $${code:-0}; fi

PORT = 8000
web-serve: web ## Build the page and serve it on http://localhost:8000, or PORT=N
	@python3 -m http.server --bind 127.0.0.1 --directory web/dist $(PORT)

web-test: ## Build the page and test it in a headless Chromium; screenshots in web/screenshots
	@sh scripts/web-test.sh || code=$$?; if [ "$${code:-0}" != 77 ]; then exit $${code:-0}; fi

mpi-test: ## Build the program with MPI and test it in several processes
	@sh scripts/ensure-vulkan.sh
	@$(RUNTIME); features=$$(sh scripts/ensure-mpi.sh); [ -n "$$features" ] || exit 0; \
	cargo test --release --workspace $$features --test program mpi:: -- --test-threads 1

deny: ## Check licences, duplicate crates and advisories of all dependencies with cargo-deny
	@cargo deny --version >/dev/null 2>&1 || { echo "SKIPPED: cargo-deny not found (cargo install cargo-deny)"; exit 0; }; \
	cargo deny --locked --workspace check bans licenses sources || exit 1; \
	cargo deny --locked --workspace fetch db >/dev/null 2>&1 || { echo "SKIPPED: the advisories cannot be fetched"; exit 0; }; \
	cargo deny --locked --workspace check advisories

check: ## Check format, lints and documentation
	cargo fmt --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --workspace
