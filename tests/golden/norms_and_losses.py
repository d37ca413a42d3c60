#!/usr/bin/env python3
"""Make the golden cases of norms of examples, log-softmax, and losses of targets in float64.

Usage: python3 tests/golden/norms_and_losses.py

Writes tests/golden/{example_norm,log_softmax,element_loss,soft_cross_entropy}/*.safetensors and replaces those cases in
tests/golden/manifest.json. Needs only Python's standard library and gives the same bytes every time. Values come from the
definitions, gradients from the Jacobians written out element by element; nothing is shared with the crate.
"""

import itertools
import json
import math
import struct
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
KINDS = ["example_norm", "log_softmax", "element_loss", "soft_cross_entropy"]


def elements(seed, count, scale=64):
    """Multiples of 1/scale in [-512/scale, 512/scale): the upper bits of a 64-bit linear congruential generator."""
    state, values = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values.append(((state >> 54) - 512) / scale)
    return values


def shares(seed, count):
    """Multiples of 1/1024 from 0 to below 1."""
    return [(x + 512) / 1024 for x in elements(seed, count, 1)]


def example_norm(name, shape, groups, each_position, epsilon):
    """Images [n, h, w, c]; the scale and shift of channels, or of the elements of examples [n, 1, 1, c]."""
    n, h, w, c = shape
    count, size = n * h * w * c, c // groups
    seed = sum(map(ord, name))
    x, dy = elements(seed, count), elements(seed + 1, count)
    scale, shift = elements(seed + 2, c, 256), elements(seed + 3, c, 256)
    at = lambda i, row, column, channel: ((i * h + row) * w + column) * c + channel
    pixels = list(itertools.product(range(h), range(w)))
    sets = []
    for i, group in itertools.product(range(n), range(groups)):
        channels = range(group * size, (group + 1) * size)
        for part in [[pixel] for pixel in pixels] if each_position else [pixels]:
            sets.append([at(i, *pixel, channel) for pixel in part for channel in channels])
    y, dx = [0.0] * count, [0.0] * count
    dscale, dshift = [0.0] * c, [0.0] * c
    for of in sets:
        mean = math.fsum(x[i] for i in of) / len(of)
        deviation = math.sqrt(math.fsum((x[i] - mean) ** 2 for i in of) / len(of) + epsilon)
        normal = {i: (x[i] - mean) / deviation for i in of}
        for i in of:
            y[i] = normal[i] * scale[i % c] + shift[i % c]
            dscale[i % c] += dy[i] * normal[i]
            dshift[i % c] += dy[i]
            # d normal[j] / d x[i] = (delta_ij - 1/m - normal[i] * normal[j] / m) / deviation.
            slopes = (dy[j] * scale[j % c] * ((i == j) - (1 + normal[i] * normal[j]) / len(of)) for j in of)
            dx[i] = math.fsum(slopes) / deviation
    params = {"groups": groups, "each_position": each_position, "epsilon": epsilon}
    return name, "example_norm", params, {
        "input": (shape, x, "f"), "scale": ([c], scale, "f"), "shift": ([c], shift, "f"), "grad_output": (shape, dy, "f"),
    }, {"output": (shape, y), "grad_input": (shape, dx), "grad_scale": ([c], dscale), "grad_shift": ([c], dshift)}


def log_softmax(name, rows, classes):
    x, dy = elements(rows, rows * classes), elements(classes, rows * classes)
    y, dx = [], []
    for row in range(rows):
        of, g = x[row * classes:][:classes], dy[row * classes:][:classes]
        total = math.fsum(map(math.exp, of))
        y += [v - math.log(total) for v in of]
        share = [math.exp(v) / total for v in of]
        dx += [math.fsum(g[j] * ((i == j) - share[i]) for j in range(classes)) for i in range(classes)]
    shape = [rows, classes]
    return name, "log_softmax", {}, {"input": (shape, x, "f"), "grad_output": (shape, dy, "f")}, {
        "output": (shape, y), "grad_input": (shape, dx),
    }


def element_loss(name, shape, params, loss, slope, targets):
    count = math.prod(shape)
    y, t = elements(count, count), targets(count + 1, count)
    # Equal elements, and differences of exactly 1 and 2.
    y[:4] = [t[0], t[1] + 1, t[2] - 2, 0.0]
    value = math.fsum(map(loss, y, t)) / count
    return name, "element_loss", params, {"prediction": (shape, y, "f"), "target": (shape, t, "f")}, {
        "loss": ([1], [value]), "grad_prediction": (shape, [slope(a, b) / count for a, b in zip(y, t)]),
    }


def absolute(y, t):
    return abs(y - t)


def huber(delta):
    return lambda y, t: (y - t) ** 2 / 2 if abs(y - t) <= delta else delta * (abs(y - t) - delta / 2)


def smooth(beta):
    return lambda y, t: (y - t) ** 2 / 2 / beta if abs(y - t) < beta else abs(y - t) - beta / 2


def clamped(low, high, factor):
    return lambda y, t: max(low, min(high, y - t)) * factor


def logistic(x):
    return (1 + math.tanh(x / 2)) / 2


def entropy(weight):
    return lambda y, t: -weight * t * math.log(logistic(y)) - (1 - t) * math.log(logistic(-y))


def entropy_slope(weight):
    return lambda y, t: (1 - t) * logistic(y) - weight * t * (1 - logistic(y))


def soft_cross_entropy(name, rows, classes):
    x, t = elements(rows + 7, rows * classes), shares(classes + 7, rows * classes)
    t[0] = 0.0
    loss, dx = 0.0, []
    for row in range(rows):
        of, p = x[row * classes:][:classes], t[row * classes:][:classes]
        share = [math.exp(v) / math.fsum(map(math.exp, of)) for v in of]
        loss -= math.fsum(a * math.log(b) for a, b in zip(p, share)) / rows
        # d log share[j] / d x[i] = delta_ij - share[i].
        dx += [-math.fsum(p[j] * ((i == j) - share[i]) for j in range(classes)) / rows for i in range(classes)]
    shape = [rows, classes]
    return name, "soft_cross_entropy", {}, {"logits": (shape, x, "f"), "targets": (shape, t, "f")}, {
        "loss": ([1], [loss]), "grad_logits": (shape, dx),
    }


def write(path, tensors):
    """A safetensors file: the header's length, the header, and the data in the header's order."""
    header, data = {}, b""
    for name, (shape, values, code) in tensors.items():
        packed = struct.pack(f"<{len(values)}{code}", *values)
        dtype = {"f": "F32", "d": "F64"}[code]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def cases():
    yield example_norm("group_norm_2x5x3x6_g2", [2, 5, 3, 6], 2, False, 1e-5)
    yield example_norm("group_norm_3x1x7x8_g4", [3, 1, 7, 8], 4, False, 1e-3)
    yield example_norm("instance_norm_3x4x5x3", [3, 4, 5, 3], 3, False, 1e-5)
    yield example_norm("layer_norm_of_channels_2x3x2x9", [2, 3, 2, 9], 1, True, 1e-6)
    yield example_norm("layer_norm_of_examples_4x1x1x70", [4, 1, 1, 70], 1, True, 1e-5)
    yield log_softmax("log_softmax_3x7", 3, 7)
    yield log_softmax("log_softmax_17x10", 17, 10)
    for shape in ([3, 5], [2, 4, 3, 5]):
        size = "x".join(map(str, shape))
        sign = lambda y, t: (y > t) - (y < t)
        yield element_loss(f"l1_{size}", shape, {"loss": "l1"}, absolute, sign, elements)
        yield element_loss(
            f"huber_2_{size}", shape, {"loss": "huber", "delta": 2.0}, huber(2.0), clamped(-2.0, 2.0, 1.0), elements)
        yield element_loss(
            f"smooth_l1_0.5_{size}", shape, {"loss": "smooth_l1", "beta": 0.5}, smooth(0.5), clamped(-0.5, 0.5, 2.0), elements)
        for weight in (1.0, 2.5):
            params = {"loss": "binary_cross_entropy", "positive_weight": weight}
            yield element_loss(f"bce_{weight}_{size}", shape, params, entropy(weight), entropy_slope(weight), shares)
    yield soft_cross_entropy("soft_cross_entropy_3x7", 3, 7)
    yield soft_cross_entropy("soft_cross_entropy_17x10", 17, 10)


def main():
    path = FOLDER / "manifest.json"
    manifest = json.loads(path.read_text())
    keep = [entry for entry in manifest["cases"] if entry["kind"] not in KINDS]
    for name, kind, params, inputs, outputs in cases():
        tensors = dict(inputs)
        tensors.update({f"{key}_f64": (shape, values, "d") for key, (shape, values) in outputs.items()})
        file = f"{kind}/{name}.safetensors"
        write(FOLDER / file, tensors)
        keep.append({
            "name": name,
            "kind": kind,
            "file": file,
            "params": params,
            "references": ["python"],
            "inputs": list(inputs),
            "outputs": list(outputs),
            "tensors": {n: {"dtype": {"f": "F32", "d": "F64"}[c], "shape": s} for n, (s, _, c) in tensors.items()},
        })
    manifest["cases"] = keep
    path.write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
