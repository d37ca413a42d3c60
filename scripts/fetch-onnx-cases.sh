#!/bin/sh
# Fetches the node test cases of the ONNX backend into target/onnx-cases/node, for tests/onnx.rs: for each case a model.onnx,
# its inputs and its expected outputs. They are extracted from the wheel `onnx`, from the package index that pip is
# configured with. The wheel of one platform serves all, as only its data is used. Also installs the package itself into
# target/onnx-cases/python, whose checker and reference evaluator judge exports (tests/onnx_networks.rs).
#
# If the cases are not available, prints one line and exits with 0. A wheel with another hash is a failure.
set -eu
cd "$(dirname "$0")/.."

version=1.22.0
sha256=1d0a2bdb15eb2b3cb65c438f3423d9620d14fdce32f92380e6bb1b2e09568ef5
folder=target/onnx-cases

say() {
    printf 'fetch-onnx-cases: %s\n' "$*" >&2
}

give_up() {
    say "SKIPPED, no ONNX node cases: $*"
    exit 0
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# An unresponsive mirror must not block the tests.
bounded() {
    if have timeout; then timeout 120 "$@"; else "$@"; fi
}

if [ "$(cat "$folder/node/COMPLETE" 2>/dev/null)" = "$sha256" ] && [ -e "$folder/python/COMPLETE" ]; then exit 0; fi

python=
for name in python3 python; do
    if have "$name" && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then python=$name; break; fi
done
if [ -z "$python" ]; then give_up "they need pip, and Python 3 is not available"; fi

mkdir -p "$folder"
if ! "$python" -m pip --version >/dev/null 2>&1; then
    # Some systems ship Python without pip; a virtual environment includes it.
    bounded "$python" -m venv "$folder/venv" >/dev/null 2>&1 || give_up "Python has no pip and cannot create a virtual environment"
    python=$(ls "$folder"/venv/bin/python "$folder"/venv/Scripts/python.exe 2>/dev/null | head -n 1)
fi

if [ ! -e "$folder/python/COMPLETE" ]; then
    rm -rf "$folder/python"
    if bounded "$python" -m pip install --quiet --disable-pip-version-check --timeout 15 --retries 1 --only-binary :all: \
        --target "$folder/python" "onnx==$version" >"$folder/pip.log" 2>&1; then
        : >"$folder/python/COMPLETE"
    else
        say "SKIPPED, no checker for ONNX exports: pip cannot install onnx $version ($(tail -n 1 "$folder/pip.log"))"
    fi
fi
if [ "$(cat "$folder/node/COMPLETE" 2>/dev/null)" = "$sha256" ]; then exit 0; fi

rm -rf "$folder/wheel" "$folder/unpacked" "$folder/node"
mkdir -p "$folder/wheel"
if ! bounded "$python" -m pip download --quiet --disable-pip-version-check --timeout 15 --retries 1 --no-deps \
    --only-binary :all: --platform manylinux_2_28_x86_64 --python-version 311 --implementation cp --abi cp311 \
    --dest "$folder/wheel" "onnx==$version" >"$folder/pip.log" 2>&1; then
    give_up "pip cannot download onnx $version ($(tail -n 1 "$folder/pip.log"))"
fi

# Verifies the hash and extracts the node cases.
"$python" - "$sha256" "$folder" <<'PYTHON' || exit 1
import hashlib, pathlib, sys, zipfile

expected, folder = sys.argv[1], pathlib.Path(sys.argv[2])
[wheel] = (folder / "wheel").iterdir()
found = hashlib.sha256(wheel.read_bytes()).hexdigest()
if found != expected:
    sys.exit(f"fetch-onnx-cases: {wheel.name}: expected SHA-256 {expected}, got {found}")
inside = "onnx/backend/test/data/node/"
with zipfile.ZipFile(wheel) as archive:
    names = [name for name in archive.namelist() if name.startswith(inside)]
    archive.extractall(folder / "unpacked", names)
(folder / "unpacked" / inside).rename(folder / "node")
(folder / "node" / "COMPLETE").write_text(expected)
PYTHON

rm -rf "$folder/wheel" "$folder/unpacked"
say "$(find "$folder/node" -name model.onnx | wc -l) node cases of onnx $version in $folder/node"
