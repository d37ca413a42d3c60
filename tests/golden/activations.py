#!/usr/bin/env python3
"""Make the golden cases of SiLU, ReLU6, hard sigmoid and hard swish in float64.

Usage: python3 tests/golden/activations.py

Writes tests/golden/activation/*.safetensors and replaces those cases in tests/golden/manifest.json. Needs only Python's
standard library and gives the same bytes every time. Values come from the definitions, derivatives from the slopes of the
pieces, or for SiLU from its derivative in terms of tanh; nothing is shared with the crate.
"""

import json
import math
import struct
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SHAPE = [3, 5, 7, 2]


def elements(seed, count):
    """Multiples of 1/64 in [-8, 8): the upper bits of a 64-bit linear congruential generator (Knuth, MMIX)."""
    state, values = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values.append(((state >> 54) - 512) / 64)
    return values


def silu(x):
    # The logistic function is (1 + tanh(x / 2)) / 2.
    t = math.tanh(x / 2)
    return x * (1 + t) / 2, (1 + t) / 2 + x * (1 - t * t) / 4


def relu6(x):
    return min(max(x, 0.0), 6.0), float(0 < x < 6)


def hard_sigmoid(x):
    return min(max(x + 3, 0.0), 6.0) / 6, (1 / 6) * (-3 < x < 3)


def hard_swish(x):
    slope = 0.0 if x <= -3 else 1.0 if x >= 3 else (2 * x + 3) / 6
    return x * min(max(x + 3, 0.0), 6.0) / 6, slope


def write(path, tensors):
    """A safetensors file: the header's length, the header, and the data in the header's order."""
    header, data = {}, b""
    for name, (code, values) in tensors.items():
        packed = struct.pack(f"<{len(values)}{code}", *values)
        dtype = {"f": "F32", "d": "F64"}[code]
        header[name] = {"dtype": dtype, "shape": SHAPE, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    path = FOLDER / "manifest.json"
    manifest = json.loads(path.read_text())
    functions = [silu, relu6, hard_sigmoid, hard_swish]
    names = [function.__name__ for function in functions]
    keep = [entry for entry in manifest["cases"] if entry["params"].get("activation") not in names]
    count = math.prod(SHAPE)
    for number, function in enumerate(functions):
        x, dy = elements(2 * number + 1, count), elements(2 * number + 2, count)
        # The kinks, and both zeros.
        x[:6] = [0.0, -0.0, 3.0, -3.0, 6.0, -6.0]
        values, slopes = zip(*map(function, x))
        tensors = {
            "input": ("f", x),
            "grad_output": ("f", dy),
            "output_f64": ("d", values),
            "grad_input_f64": ("d", [slope * g for slope, g in zip(slopes, dy)]),
        }
        name = f"{function.__name__}_" + "x".join(map(str, SHAPE))
        file = f"activation/{name}.safetensors"
        write(FOLDER / file, tensors)
        keep.append({
            "name": name,
            "kind": "activation",
            "file": file,
            "params": {"activation": function.__name__, "shape": SHAPE},
            "references": ["python"],
            "inputs": ["input", "grad_output"],
            "outputs": ["output", "grad_input"],
            "tensors": {n: {"dtype": {"f": "F32", "d": "F64"}[c], "shape": SHAPE} for n, (c, _) in tensors.items()},
        })
    manifest["cases"] = keep
    path.write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
