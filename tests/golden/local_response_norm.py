#!/usr/bin/env python3
"""Make the golden cases of local response norms and of their factor in float64.

Usage: python3 tests/golden/local_response_norm.py

Writes tests/golden/local_response_norm/*.safetensors and tests/golden/activation/inverse_power_*.safetensors and replaces those
cases in tests/golden/manifest.json. Needs only Python's standard library and gives the same bytes every time. Nothing is shared
with the crate: with d = k + alpha * mean, output c is x[c] / d[c]^beta, and its derivative by x[j] is 1 / d[c]^beta where c is j,
minus 2 * alpha * beta / size * x[c] * x[j] / d[c]^(beta + 1) where j is in the window of c.
"""

import json

from resampling import FOLDER, elements, entry


def norm(name, seed, shape, size, alpha, beta, k):
    *_, channels = shape
    count = 1
    for extent in shape:
        count *= extent
    x, dy = elements(seed, count), elements(seed + 1, count)
    y, dx = [0.0] * count, [0.0] * count
    for first in range(0, count, channels):
        for c in range(channels):
            window = [j for j in range(c - size // 2, c - size // 2 + size) if 0 <= j < channels]
            d = k + alpha * sum(x[first + j] ** 2 for j in window) / size
            y[first + c] = x[first + c] / d**beta
            dx[first + c] += dy[first + c] / d**beta
            for j in window:
                slope = 2 * alpha * beta / size * x[first + c] * x[first + j] / d ** (beta + 1)
                dx[first + j] -= dy[first + c] * slope
    tensors = {
        "input": ("f", shape, x),
        "grad_output": ("f", shape, dy),
        "output_f64": ("d", shape, y),
        "grad_input_f64": ("d", shape, dx),
    }
    params = {"size": size, "alpha": alpha, "beta": beta, "k": k}
    return entry(name, "local_response_norm", params, ["input", "grad_output"], ["output", "grad_input"], tensors)


def inverse_power(seed, exponent):
    shape = [3, 5, 7, 2]
    x, dy = elements(seed, 210), elements(seed + 1, 210)
    x[:2] = [0.0, -0.0]
    # Large arguments, too.
    x[2:40] = [abs(value) * 2.0 ** (i % 30) for i, value in enumerate(x[2:40])]
    values = [(1 + max(value, 0.0)) ** -exponent for value in x]
    slopes = [-exponent * (1 + value) ** (-exponent - 1) if value >= 0 else 0.0 for value in x]
    tensors = {
        "input": ("f", shape, x),
        "grad_output": ("f", shape, dy),
        "output_f64": ("d", shape, values),
        "grad_input_f64": ("d", shape, [slope * g for slope, g in zip(slopes, dy)]),
    }
    name = f"inverse_power_{exponent}"
    params = {"activation": "inverse_power", "exponent": exponent}
    return entry(name, "activation", params, ["input", "grad_output"], ["output", "grad_input"], tensors)


def main():
    path = FOLDER / "manifest.json"
    manifest = json.loads(path.read_text())
    mine = lambda case: case["kind"] == "local_response_norm" or case["params"].get("activation") == "inverse_power"
    manifest["cases"] = [case for case in manifest["cases"] if not mine(case)] + [
        norm("alexnet_5", 900, [2, 3, 4, 12], 5, 1e-4, 0.75, 1.0),
        norm("paper_5", 910, [2, 3, 2, 7], 5, 0.5, 0.75, 2.0),
        norm("even_4", 920, [3, 2, 2, 6], 4, 1.5, 0.5, 0.25),
        norm("wider_than_the_channels", 930, [2, 2, 3, 3], 9, 2.0, 1.25, 1.0),
        norm("one_channel", 940, [1, 3, 3, 4], 1, 1.0, 1.0, 1.0),
        inverse_power(950, 0.75),
        inverse_power(960, 2),
    ]
    path.write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
