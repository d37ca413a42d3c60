#!/bin/sh
# Fetches the ONNX backend's node cases into target/onnx-cases/node, for tests/onnx.rs: one model.onnx a case, with the
# inputs and the outputs that ONNX expects of it. They come out of the wheel `onnx`, by whatever index pip is set up
# with; nothing is installed. One platform's wheel serves all, since only its data is used.
#
# Cases that cannot be had are one line and no failure. A wheel with another hash is a failure.
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

# A mirror that hangs must not hang the tests.
bounded() {
    if have timeout; then timeout 120 "$@"; else "$@"; fi
}

if [ "$(cat "$folder/node/COMPLETE" 2>/dev/null)" = "$sha256" ]; then exit 0; fi

python=
for name in python3 python; do
    if have "$name" && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then python=$name; break; fi
done
if [ -z "$python" ]; then give_up "they come with pip, and there is no Python 3 here"; fi

mkdir -p "$folder"
if ! "$python" -m pip --version >/dev/null 2>&1; then
    # Some systems leave pip out of Python; an environment of its own brings one.
    bounded "$python" -m venv "$folder/venv" >/dev/null 2>&1 || give_up "this Python has no pip, nor can it make one"
    python=$(ls "$folder"/venv/bin/python "$folder"/venv/Scripts/python.exe 2>/dev/null | head -n 1)
fi

rm -rf "$folder/wheel" "$folder/unpacked" "$folder/node"
mkdir -p "$folder/wheel"
if ! bounded "$python" -m pip download --quiet --disable-pip-version-check --timeout 15 --retries 1 --no-deps \
    --only-binary :all: --platform manylinux_2_28_x86_64 --python-version 311 --implementation cp --abi cp311 \
    --dest "$folder/wheel" "onnx==$version" >"$folder/pip.log" 2>&1; then
    give_up "pip cannot download onnx $version ($(tail -n 1 "$folder/pip.log"))"
fi

# Hash, and the node cases alone.
"$python" - "$sha256" "$folder" <<'PYTHON' || exit 1
import hashlib, pathlib, sys, zipfile

expected, folder = sys.argv[1], pathlib.Path(sys.argv[2])
[wheel] = (folder / "wheel").iterdir()
found = hashlib.sha256(wheel.read_bytes()).hexdigest()
if found != expected:
    sys.exit(f"fetch-onnx-cases: {wheel.name} has the SHA-256 {found}, expected {expected}")
inside = "onnx/backend/test/data/node/"
with zipfile.ZipFile(wheel) as archive:
    names = [name for name in archive.namelist() if name.startswith(inside)]
    archive.extractall(folder / "unpacked", names)
(folder / "unpacked" / inside).rename(folder / "node")
(folder / "node" / "COMPLETE").write_text(expected)
PYTHON

rm -rf "$folder/wheel" "$folder/unpacked"
say "$(find "$folder/node" -name model.onnx | wc -l) node cases of onnx $version in $folder/node"
