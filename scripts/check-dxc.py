#!/usr/bin/env python3
"""Compiles HLSL files with Microsoft's DirectX Shader Compiler (DXC), with the options that wgpu uses.

    scripts/check-dxc.py DIR FILE.hlsl...    or a folder of such files
    DXC=/path/to/libdxcompiler.so scripts/check-dxc.py DIR FILE.hlsl...

DXC is free software (University of Illinois/NCSA licence), but Debian does not package it. Unless $DXC names its Linux
library, the library is extracted from a Python wheel that contains it, pinned by the hash below, and kept in DIR. Nothing is
installed.

Exit codes: 0 if all files compile; 1 if one does not, with a line for each error; 77 if DXC is not available.
"""

import concurrent.futures
import concurrent.futures.process
import ctypes
import os
import pathlib
import platform
import subprocess
import sys
import uuid
import zipfile

# DXC 1.8. The licence of the package itself is MIT; its source archive has an older DXC.
WHEEL = (
    "compushady-lrtu==0.18.0 --hash=sha256:b76371972f2543a1e83034a86c83cfad678dabf66be0b50b7d78edbcb1c98243",
    "compushady/backends/libdxcompiler_x86_64.so",
)
PLATFORM = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--platform", "manylinux_2_28_x86_64"]

# The options of wgpu-hal, for the lowest shader model of DXC.
OPTIONS = ["-E", "main", "-T", "cs_6_0", "-HV", "2018", "-no-warnings", "-Ges"]

# Invalid HLSL: if it compiles, errors are not reported.
PLANTED = b"uint twice() { return 1; } uint twice() { return 2; } [numthreads(1, 1, 1)] void main() {}"

COMPILER_CLASS = "73e22d93-e6ce-47f3-b5bf-f0664f39c1b0"
COMPILER3 = "228b4687-5a6a-4730-900c-9702b2203f54"
RESULT = "58346cda-dde7-4497-9461-6f87af5e0659"
UTF8 = 65001


def skip(reason):
    print(f"SKIPPED: {reason}", file=sys.stderr)
    sys.exit(77)


def library(folder):
    """Returns the path of the DXC library: $DXC, or that of the wheel."""
    if "DXC" in os.environ:
        return os.path.abspath(os.environ["DXC"])
    kept = folder / "libdxcompiler.so"
    if kept.exists():
        return str(kept)
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        skip("no DXC for this system; set DXC=/path/to/libdxcompiler.so")
    folder.mkdir(parents=True, exist_ok=True)
    requirement, member = WHEEL
    (folder / "requirements.txt").write_text(requirement + "\n")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "download", "--no-deps"]
    pip += ["--only-binary=:all:", "--require-hashes", *PLATFORM, "-d", folder, "-r", folder / "requirements.txt"]
    print("check-dxc: fetching DXC (15 MB)", file=sys.stderr)
    try:
        done = subprocess.run(pip, timeout=300, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        done = False
    if not done:
        skip("DXC cannot be fetched: no pip, no network or a hash mismatch")
    wheel = next(folder.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        unfinished = folder / "unfinished.so"
        unfinished.write_bytes(archive.read(member))
    unfinished.rename(kept)
    wheel.unlink()
    return str(kept)


class Buffer(ctypes.Structure):
    _fields_ = [("start", ctypes.c_char_p), ("size", ctypes.c_size_t), ("encoding", ctypes.c_uint32)]


def guid(text):
    return uuid.UUID(text).bytes_le


def call(thing, slot, *arguments, returns=ctypes.c_int32):
    """Calls a method of a COM object by its index in the virtual table."""
    table = ctypes.cast(thing, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))[0]
    kinds = [ctypes.c_uint32 if isinstance(a, int) else ctypes.c_void_p for a in arguments]
    return ctypes.CFUNCTYPE(returns, ctypes.c_void_p, *kinds)(table[slot])(thing, *arguments)


def compiler(path):
    """Creates an IDxcCompiler3."""
    made = ctypes.c_void_p()
    create = ctypes.CDLL(path).DxcCreateInstance
    if create(guid(COMPILER_CLASS), guid(COMPILER3), ctypes.byref(made)) != 0:
        raise OSError(f"{path}: DxcCreateInstance failed")
    return made


def compile_text(path, text):
    """Returns the error message of the compiler for a text; empty if it compiles."""
    made, result, status, blob = compiler(path), ctypes.c_void_p(), ctypes.c_int32(-1), ctypes.c_void_p()
    source = Buffer(text, len(text), UTF8)
    options = (ctypes.c_wchar_p * len(OPTIONS))(*OPTIONS)
    code = call(
        made, 3, ctypes.byref(source), ctypes.cast(options, ctypes.c_void_p), len(OPTIONS), None, guid(RESULT), ctypes.byref(result)
    )
    if code != 0:
        return f"IDxcCompiler3::Compile failed with {code & 0xFFFFFFFF:#x}"
    call(result, 3, ctypes.byref(status))  # GetStatus
    call(result, 5, ctypes.byref(blob))  # GetErrorBuffer
    message = ctypes.string_at(call(blob, 3, returns=ctypes.c_void_p)).decode(errors="replace") if blob else ""
    for thing in (blob, result, made):
        if thing:
            call(thing, 2)  # Release
    if status.value == 0:
        return ""
    return message.strip() or f"status {status.value & 0xFFFFFFFF:#x} without a message"


def main():
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    folder = pathlib.Path(sys.argv[1])
    given = [pathlib.Path(argument) for argument in sys.argv[2:]]
    files = [file for path in given for file in (sorted(path.glob("*.hlsl")) if path.is_dir() else [path])]
    if not files:
        print("check-dxc: no *.hlsl files", file=sys.stderr)
        return 2
    path = library(folder)
    try:
        compiler(path)
    except OSError as error:
        if "DXC" in os.environ:
            print(f"check-dxc: {error}", file=sys.stderr)
            return 2
        skip(f"DXC does not load: {error}")
    if not compile_text(path, PLANTED):
        print(f"check-dxc: {path} compiles invalid HLSL", file=sys.stderr)
        return 1
    errors = 0
    # In separate processes, as the compiler may crash.
    with concurrent.futures.ProcessPoolExecutor() as pool:
        runs = [(file, pool.submit(compile_text, path, file.read_bytes())) for file in files]
        for file, run in runs:
            try:
                message = run.result()
            except concurrent.futures.process.BrokenProcessPool:
                message = "the compiler crashed at this file or one of the next"
            if message:
                errors += 1
                print(f"FAIL {file}: {message}", flush=True)
    print(f"DXC compiles {len(files) - errors} of {len(files)} files")
    return int(errors > 0)


if __name__ == "__main__":
    sys.exit(main())
