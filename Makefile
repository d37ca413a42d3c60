.DEFAULT_GOAL := help
.PHONY: help demo test check

# Without XDG_RUNTIME_DIR the Vulkan loader's window-system code complains at every start, though no window opens.
RUNTIME = if [ -z "$${XDG_RUNTIME_DIR:-}" ]; then \
	XDG_RUNTIME_DIR=$$(mktemp -d) && export XDG_RUNTIME_DIR && trap 'rm -rf "$$XDG_RUNTIME_DIR"' EXIT; fi

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST))

demo: ## Train on the embedded digits, with the results in runs/demo
	@sh scripts/ensure-vulkan.sh
	@$(RUNTIME); cargo run --release -- train --out runs/demo

test: ## Run all tests
	@sh scripts/ensure-vulkan.sh
	@sh scripts/fetch-onnx-cases.sh
	@$(RUNTIME); cargo test --release

check: ## Check the format, the lints and the documentation
	cargo fmt --check
	cargo clippy --release --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps
