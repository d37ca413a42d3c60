#!/bin/sh
# Brings Rust's standard library for WebAssembly, and prints the rustc to compile with.
#
#   RUSTC=$(scripts/wasm-std.sh [DIR]) cargo build --target wasm32-unknown-unknown
#
# With rustup, the target of the active toolchain is added to it; then the rustc printed is the usual one. Where rustup is
# absent or cannot download, Debian's newest rustc and its library for WebAssembly are unpacked below DIR [default:
# target/wasm-std], 800 MB, without installing them. FRAZIL_WASM_STD=debian skips rustup.
#
# Exit codes: 0; 77 if neither is available.
set -eu
cd "$(dirname "$0")/.."
dir=${1:-${CARGO_TARGET_DIR:-target}/wasm-std}
target=wasm32-unknown-unknown

unavailable() {
    echo "wasm-std: $1" >&2
    exit 77
}

# The usual rustc, if it has the library.
if [ "${FRAZIL_WASM_STD:-}" != debian ]; then
    if ls "$(rustc --print sysroot)/lib/rustlib/$target/lib/"libstd-*.rlib >/dev/null 2>&1; then
        echo rustc
        exit
    fi
    if command -v rustup >/dev/null && timeout 180 rustup target add "$target" >/dev/null 2>&1; then
        echo rustc
        exit
    fi
    echo "wasm-std: rustup is absent or cannot download; taking Debian's packages" >&2
fi

if [ -e "$dir/probe.wasm" ] && "$dir/rustc" --version >/dev/null 2>&1; then
    cd "$dir" && echo "$PWD/rustc"
    exit
fi

[ "$(uname -m)" = x86_64 ] || unavailable "Debian's packages are taken for x86_64 only, this is $(uname -m)"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
# shellcheck source=scripts/debian.sh
. scripts/debian.sh
lists_below "$dir" unstable
apt_below "$dir" 400 -qq -y --download-only install rustc libstd-rust-dev-wasm32 lld >&2 || unavailable "the packages cannot be fetched"
rm -rf "$dir/root"
mkdir -p "$dir/root"
for package in "$dir"/cache/archives/*.deb; do
    # The rest is a C compiler, which rustc uses as a linker; it takes that of this machine.
    case ${package##*/} in
    gcc* | cpp* | binutils* | libgcc-*-dev* | libc6-dev* | linux-libc-dev*) continue ;;
    esac
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$dir/root" --exclude='./usr/share'
done
rm -rf "$dir/cache"
loader=$(find "$dir/root" -name 'ld-linux-x86-64.so.2' | head -n 1)
lld=$(find "$dir/root/usr/lib" -path '*/llvm-*/bin/lld' | head -n 1)
[ -n "$loader" ] && [ -n "$lld" ] || unavailable "the packages have no dynamic loader or no lld"
libraries=$(find "$dir/root/usr/lib" -name '*.so*' -exec dirname {} + | sort -u | tr '\n' ':')

# wrapper FILE COMMAND: writes a script that runs a program with the libraries of the packages.
wrapper() {
    mkdir -p "$(dirname "$1")"
    printf '#!/bin/sh\nexec "%s" --library-path "%s" %s "$@"\n' "$loader" "$libraries" "$2" >"$1.tmp"
    chmod +x "$1.tmp"
    mv "$1.tmp" "$1"
}

# Where rustc looks for the linker of WebAssembly.
wrapper "$dir/root/usr/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld" "'$lld'"
wrapper "$dir/rustc" "'$dir/root/usr/bin/rustc' --sysroot '$dir/root/usr'"
printf 'pub extern "C" fn answer() -> u32 { 42 }\n' >"$dir/probe.rs"
"$dir/rustc" --target "$target" --crate-type cdylib -o "$dir/probe.wasm" "$dir/probe.rs" >&2 || {
    rm "$dir/rustc"
    unavailable "Debian's rustc does not run here"
}
echo "$dir/rustc"
