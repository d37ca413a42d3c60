.DEFAULT_GOAL := help
.PHONY: help demo test bench check check-dx12 check-dxc check-tint examples newest-mesa

# Without XDG_RUNTIME_DIR the Vulkan loader's window-system code complains at every start, though no window opens.
RUNTIME = if [ -z "$${XDG_RUNTIME_DIR:-}" ]; then \
	XDG_RUNTIME_DIR=$$(mktemp -d) && export XDG_RUNTIME_DIR && trap 'rm -rf "$$XDG_RUNTIME_DIR"' EXIT; fi

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST))

demo: ## Train on the embedded digits, with the results in runs/demo
	@sh scripts/ensure-vulkan.sh
	@$(RUNTIME); cargo run --release -- train --out runs/demo

test: ## Run all tests
	@sh scripts/ensure-vulkan.sh
	@sh scripts/fetch-onnx-cases.sh
	@$(RUNTIME); cargo test --release

bench: ## Time kernels, what freezing saves, and the host's cost; one short round with FRAZIL_BENCH_LIGHT=1
	@sh scripts/ensure-vulkan.sh
	@$(RUNTIME); cargo bench

EXAMPLES = the_question fixed_stencils lottery_ticket gradual_pruning packnet inq stuck_at_faults rigl edge_popup quickstart

examples: ## Run all examples: each fails unless its method works
	@sh scripts/ensure-vulkan.sh
	@$(RUNTIME); cargo build --release --examples && for name in $(EXAMPLES); do \
		echo "== $$name"; cargo run -q --release --example $$name || exit 1; done

NEWEST = scripts/newest-mesa.sh $${CARGO_TARGET_DIR:-target}/newest-mesa

newest-mesa: ## Hold kernels against the reference on the newest software driver, which has matrix units
	@$(RUNTIME); cargo build --release --quiet || exit 1; \
	tests=$$(cargo test --release -p frazil --test main --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p'); \
	[ -n "$$tests" ] || { echo "no test program was built"; exit 1; }; \
	$(NEWEST) $${CARGO_TARGET_DIR:-target}/release/frazil check && $(NEWEST) "$$tests" cooperative || code=$$?; \
	if [ "$${code:-0}" = 77 ]; then echo "SKIPPED: no newer driver to be had, see above"; else exit $${code:-0}; fi

check-tint: ## Compile every shader with Chrome's own compiler, in a headless Chromium; PIPELINES=N is faster
	@command -v python3 >/dev/null || { echo "SKIPPED: no python3 here"; exit 0; }; \
	texts=$$(mktemp) && trap 'rm -f "$$texts"' EXIT && \
	cargo run --release --quiet --example shaders -- --json "$$texts" >/dev/null || exit 1; \
	python3 scripts/check-tint.py $(if $(PIPELINES),--pipelines $(PIPELINES)) "$$texts" || code=$$?; \
	if [ "$${code:-0}" != 77 ]; then exit $${code:-0}; fi

check-dxc: ## Compile every shader as HLSL with DXC, one of DX12's two compilers
	@command -v python3 >/dev/null || { echo "SKIPPED: no python3 here"; exit 0; }; \
	texts=$$(mktemp -d) && trap 'rm -rf "$$texts"' EXIT && \
	cargo run --release --quiet --example shaders -- --hlsl "$$texts" >/dev/null || exit 1; \
	python3 scripts/check-dxc.py $${CARGO_TARGET_DIR:-target}/dxc "$$texts" || code=$$?; \
	if [ "$${code:-0}" != 77 ]; then exit $${code:-0}; fi

check-dx12: ## Run the program's checks on DX12 under Wine, with Microsoft's FXC: D3DCOMPILER=FILE names it
	@sh scripts/check-dx12.sh check || code=$$?; if [ "$${code:-0}" != 77 ]; then exit $${code:-0}; fi

check: ## Check the format, the lints and the documentation
	cargo fmt --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --workspace
