#!/bin/sh
# Builds the page into web/dist.
#
# Brings the standard library for WebAssembly (scripts/wasm-std.sh).
#
# Exit codes: 0; 77 if that library is not available; others if the build fails.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

rustc=$(sh scripts/wasm-std.sh "$target/wasm-std")
cargo build --quiet --locked --release --manifest-path web/bindgen/Cargo.toml --target-dir "$target/bindgen"

RUSTC=$rustc cargo build --quiet --locked --profile web --target wasm32-unknown-unknown -p frazil-web
rm -rf web/dist
mkdir web/dist
cp web/www/* web/dist/
"$target/bindgen/release/frazil-bindgen" "$target/wasm32-unknown-unknown/web/frazil_web.wasm" web/dist
wasm=web/dist/frazil_web_bg.wasm
echo "web: web/dist, $(wc -c <"$wasm") bytes of WebAssembly, $(gzip -9 -c "$wasm" | wc -c) compressed with gzip"
