#!/usr/bin/env python3
"""Make the `conv2d_sampled` cases: convolutions large enough for Winograd's transforms, in exact integer arithmetic.

Usage: python3 tests/golden/conv2d_sampled.py

Writes tests/golden/conv2d_sampled/*.safetensors and replaces the cases of that kind in tests/golden/manifest.json. Needs
only Python's standard library, takes a few seconds, and gives the same bytes every time. Every sum is written out
from the definition of a cross-correlation; nothing is shared with the crate.

Elements are k / 64 with integers k from 32 to 63 of either sign, so a product is a multiple of 2^-12 of size 1/4 to 1, and
sums are exact: in integers here, and in any order in float64.
"""

import json
import struct
from operator import mul
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
KIND = "conv2d_sampled"
# 2 * ceil(45 / 4) * ceil(46 / 4) = 288 tiles of 4x4 outputs, those at the bottom and on the right cut off.
BATCH, HEIGHT, WIDTH, C_IN, C_OUT = 2, 45, 46, 32, 36


def elements(seed, count):
    """The integers 64 * x of a generated tensor: bits 58 to 63 of a 64-bit linear congruential generator (Knuth, MMIX)."""
    state, values = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        size = 32 + (state >> 58) % 32
        values.append(-size if state >> 63 else size)
    return values


def overlap(offset, size):
    """The rows (or columns) y for which both y and y + offset lie in an image."""
    return range(max(0, -offset), min(size, size - offset))


def case(kernel, seeds, steps):
    """The three passes of a kernel x kernel convolution, same padding, stride 1, at every `steps[pass]`-th element."""
    pad = kernel // 2
    shapes = {
        "input": [BATCH, HEIGHT, WIDTH, C_IN],
        "filter": [kernel, kernel, C_IN, C_OUT],
        "grad_output": [BATCH, HEIGHT, WIDTH, C_OUT],
    }
    sizes = {name: shape[0] * shape[1] * shape[2] * shape[3] for name, shape in shapes.items()}
    x, w, dy = (elements(seeds[name], sizes[name]) for name in shapes)
    taps = [(i, j) for i in range(kernel) for j in range(kernel)]

    def output(index):
        rest, co = divmod(index, C_OUT)
        rest, column = divmod(rest, WIDTH)
        n, row = divmod(rest, HEIGHT)
        total = 0
        for i, j in taps:
            y, z = row + i - pad, column + j - pad
            if 0 <= y < HEIGHT and 0 <= z < WIDTH:
                at, of = ((n * HEIGHT + y) * WIDTH + z) * C_IN, (i * kernel + j) * C_IN * C_OUT + co
                total += sum(map(mul, x[at:at + C_IN], w[of:of + C_IN * C_OUT:C_OUT]))
        return total

    def grad_input(index):
        rest, ci = divmod(index, C_IN)
        rest, column = divmod(rest, WIDTH)
        n, row = divmod(rest, HEIGHT)
        total = 0
        for i, j in taps:
            y, z = row - i + pad, column - j + pad
            if 0 <= y < HEIGHT and 0 <= z < WIDTH:
                at, of = ((n * HEIGHT + y) * WIDTH + z) * C_OUT, ((i * kernel + j) * C_IN + ci) * C_OUT
                total += sum(map(mul, dy[at:at + C_OUT], w[of:of + C_OUT]))
        return total

    def grad_filter(index):
        rest, co = divmod(index, C_OUT)
        tap, ci = divmod(rest, C_IN)
        down, across = tap // kernel - pad, tap % kernel - pad
        columns = overlap(across, WIDTH)
        total = 0
        for n in range(BATCH):
            for row in overlap(down, HEIGHT):
                source = ((n * HEIGHT + row + down) * WIDTH + columns[0] + across) * C_IN + ci
                target = ((n * HEIGHT + row) * WIDTH + columns[0]) * C_OUT + co
                total += sum(map(
                    mul,
                    x[source:source + len(columns) * C_IN:C_IN],
                    dy[target:target + len(columns) * C_OUT:C_OUT],
                ))
        return total

    passes = {
        "output": (output, sizes["grad_output"]),
        "grad_input": (grad_input, sizes["input"]),
        "grad_filter": (grad_filter, sizes["filter"]),
    }
    tensors = {
        f"{name}_f64": [of(index) / 4096.0 for index in range(0, size, steps[name])]
        for name, (of, size) in passes.items()
    }
    params = {
        "batch": BATCH,
        "height": HEIGHT,
        "width": WIDTH,
        "c_in": C_IN,
        "c_out": C_OUT,
        "kernel": [kernel, kernel],
        "stride": [1, 1],
        "dilation": [1, 1],
        "padding": {"mode": "same", "top": pad, "bottom": pad, "left": pad, "right": pad},
        "groups": 1,
        "out_height": HEIGHT,
        "out_width": WIDTH,
        "seeds": seeds,
        "sample_every": steps,
    }
    name = f"conv_n{BATCH}_{HEIGHT}x{WIDTH}_c{C_IN}to{C_OUT}_k{kernel}x{kernel}_s1x1_d1x1_same"
    return name, params, tensors


def write(path, tensors):
    """A safetensors file: the header's length, the header, and float64 data in the header's order."""
    header, data = {}, b""
    for name, values in tensors.items():
        packed = struct.pack(f"<{len(values)}d", *values)
        offsets = [len(data), len(data) + len(packed)]
        header[name] = {"dtype": "F64", "shape": [len(values)], "data_offsets": offsets}
        data += packed
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    manifest_path = FOLDER / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    manifest["cases"] = [entry for entry in manifest["cases"] if entry["kind"] != KIND]
    (FOLDER / KIND).mkdir(exist_ok=True)
    for kernel, first_seed, filter_step in [(3, 1, 5), (5, 11, 7)]:
        seeds = {"input": first_seed, "filter": first_seed + 1, "grad_output": first_seed + 2}
        steps = {"output": 29, "grad_input": 29, "grad_filter": filter_step}
        name, params, tensors = case(kernel, seeds, steps)
        file = f"{KIND}/{name}.safetensors"
        write(FOLDER / file, tensors)
        manifest["cases"].append({
            "name": name,
            "kind": KIND,
            "file": file,
            "params": params,
            "references": ["conv2d_sampled.py, exact integers"],
            "inputs": [],
            "outputs": ["output", "grad_input", "grad_filter"],
            "tensors": {name: {"dtype": "F64", "shape": [len(of)]} for name, of in tensors.items()},
        })
    manifest_path.write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
