#!/usr/bin/env python3
"""Compiles HLSL texts with Microsoft's DirectX Shader Compiler (DXC), with the options that wgpu gives it.

    scripts/check-dxc.py DIR FILE.hlsl...    or a folder of such files
    DXC=/path/to/libdxcompiler.so scripts/check-dxc.py DIR FILE.hlsl...

DXC is free software (University of Illinois/NCSA licence), but Debian has no package of it. Unless $DXC names one, its Linux
library is taken out of a Python wheel that carries it, whose digest is below, and kept in DIR. Nothing is installed.

Exit code 0 if all compile; 1 if one does not: each refusal is named; 77 if there is no such compiler to be had here.
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

# DXC 1.8. The package's own licence is MIT; its source archive has an older DXC.
WHEEL = (
    "compushady-lrtu==0.18.0 --hash=sha256:b76371972f2543a1e83034a86c83cfad678dabf66be0b50b7d78edbcb1c98243",
    "compushady/backends/libdxcompiler_x86_64.so",
)
PLATFORM = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--platform", "manylinux_2_28_x86_64"]

# wgpu-hal's, for the least shader model that DXC has.
OPTIONS = ["-E", "main", "-T", "cs_6_0", "-HV", "2018", "-no-warnings", "-Ges"]

# Must be refused, or the compiler is not heard.
PLANTED = b"uint twice() { return 1; } uint twice() { return 2; } [numthreads(1, 1, 1)] void main() {}"

COMPILER_CLASS = "73e22d93-e6ce-47f3-b5bf-f0664f39c1b0"
COMPILER3 = "228b4687-5a6a-4730-900c-9702b2203f54"
RESULT = "58346cda-dde7-4497-9461-6f87af5e0659"
UTF8 = 65001


def skip(reason):
    print(f"SKIPPED: {reason}", file=sys.stderr)
    sys.exit(77)


def library(folder):
    """The path of DXC's library: the user's, or that of the wheel."""
    if "DXC" in os.environ:
        return os.path.abspath(os.environ["DXC"])
    kept = folder / "libdxcompiler.so"
    if kept.exists():
        return str(kept)
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        skip("no DXC for this system; DXC=/path/to/libdxcompiler.so names one")
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
        skip("DXC cannot be fetched: no pip, no network, or another file than expected")
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
    """Calls the method in that slot of a COM object's table."""
    table = ctypes.cast(thing, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))[0]
    kinds = [ctypes.c_uint32 if isinstance(a, int) else ctypes.c_void_p for a in arguments]
    return ctypes.CFUNCTYPE(returns, ctypes.c_void_p, *kinds)(table[slot])(thing, *arguments)


def compiler(path):
    """A new IDxcCompiler3."""
    made = ctypes.c_void_p()
    create = ctypes.CDLL(path).DxcCreateInstance
    if create(guid(COMPILER_CLASS), guid(COMPILER3), ctypes.byref(made)) != 0:
        raise OSError(f"{path} makes no compiler")
    return made


def compile_text(path, text):
    """What the compiler says against a text; nothing if it takes it."""
    made, result, status, blob = compiler(path), ctypes.c_void_p(), ctypes.c_int32(-1), ctypes.c_void_p()
    source = Buffer(text, len(text), UTF8)
    options = (ctypes.c_wchar_p * len(OPTIONS))(*OPTIONS)
    code = call(
        made, 3, ctypes.byref(source), ctypes.cast(options, ctypes.c_void_p), len(OPTIONS), None, guid(RESULT), ctypes.byref(result)
    )
    if code != 0:
        return f"the compiler gave up with {code & 0xFFFFFFFF:#x}"
    call(result, 3, ctypes.byref(status))  # GetStatus
    call(result, 5, ctypes.byref(blob))  # GetErrorBuffer
    message = ctypes.string_at(call(blob, 3, returns=ctypes.c_void_p)).decode(errors="replace") if blob else ""
    for thing in (blob, result, made):
        if thing:
            call(thing, 2)  # Release
    if status.value == 0:
        return ""
    return message.strip() or f"refused with {status.value & 0xFFFFFFFF:#x}, without a word"


def main():
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    folder = pathlib.Path(sys.argv[1])
    given = [pathlib.Path(argument) for argument in sys.argv[2:]]
    files = [file for path in given for file in (sorted(path.glob("*.hlsl")) if path.is_dir() else [path])]
    if not files:
        print("check-dxc: no file NAME.hlsl there", file=sys.stderr)
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
        print(f"check-dxc: {path} takes what it must refuse", file=sys.stderr)
        return 1
    refused = 0
    # In processes of their own: a compiler may crash, too.
    with concurrent.futures.ProcessPoolExecutor() as pool:
        runs = [(file, pool.submit(compile_text, path, file.read_bytes())) for file in files]
        for file, run in runs:
            try:
                message = run.result()
            except concurrent.futures.process.BrokenProcessPool:
                message = "the compiler crashed, here or in a file soon after"
            if message:
                refused += 1
                print(f"FAIL {file}: {message}", flush=True)
    print(f"DXC takes {len(files) - refused} of {len(files)} files")
    return int(refused > 0)


if __name__ == "__main__":
    sys.exit(main())
