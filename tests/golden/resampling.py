#!/usr/bin/env python3
"""Make the golden cases of upsampling, means over windows and transposed convolution in float64.

Usage: python3 tests/golden/resampling.py

Writes tests/golden/resample/*.safetensors and tests/golden/conv_transpose/*.safetensors and replaces those cases in
tests/golden/manifest.json. Needs only Python's standard library and gives the same bytes every time. Nothing is shared with the
crate: outputs are computed pixel by pixel from the definitions with fractions, gradients from the coefficients that these have.
"""

import json
import struct
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
N, C = 2, 3


def elements(seed, count):
    """Multiples of 1/64 in [-8, 8): the upper bits of a 64-bit linear congruential generator (Knuth, MMIX)."""
    state, values = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values.append(((state >> 54) - 512) / 64)
    return values


def nearest(o, n, m, scale):
    return {min(floor(Fraction(o) / (scale or Fraction(m, n))), n - 1): Fraction(1)}


def between(position, n):
    position = min(max(position, 0), n - 1)
    first = floor(position)
    return {first: 1 - (position - first), min(first + 1, n - 1): position - first} if position > first else {first: Fraction(1)}


def bilinear(o, n, m, scale):
    return between((o + Fraction(1, 2)) / (scale or Fraction(m, n)) - Fraction(1, 2), n)


def corners(o, n, m, scale):
    return between(Fraction(o * (n - 1), m - 1) if m > 1 else Fraction(0), n)


def adaptive(o, n, m, scale):
    region = range(floor(Fraction(o * n, m)), ceil(Fraction((o + 1) * n, m)))
    return {i: Fraction(1, len(region)) for i in region}


def padded(kernel, stride, begin, end):
    """The mean of a window over an axis with zeros: those count, what is beyond them does not."""
    def mean(o, n, m, scale):
        window = [p for p in range(o * stride, o * stride + kernel) if p < begin + n + end]
        return {p - begin: Fraction(1, len(window)) for p in window if begin <= p < begin + n}
    return mean


def write(path, tensors):
    """A safetensors file: the header's length, the header, and the data in the header's order."""
    header, data = {}, b""
    for name, (code, shape, values) in tensors.items():
        packed = struct.pack(f"<{len(values)}{code}", *values)
        dtype = {"f": "F32", "d": "F64"}[code]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def entry(name, kind, params, inputs, outputs, tensors):
    file = f"{kind}/{name}.safetensors"
    write(FOLDER / file, tensors)
    shapes = {n: {"dtype": {"f": "F32", "d": "F64"}[code], "shape": shape} for n, (code, shape, _) in tensors.items()}
    return {"name": name, "kind": kind, "file": file, "params": params, "references": ["python"], "inputs": inputs, "outputs": outputs, "tensors": shapes}


def resample(name, seed, size, result, rule, params, scale=(None, None)):
    (h, w), (oh, ow) = size, result
    x, dy = elements(seed, N * h * w * C), elements(seed + 1, N * oh * ow * C)
    y, dx = [0.0] * len(dy), [Fraction(0)] * len(x)
    rules = rule if isinstance(rule, tuple) else (rule, rule)
    for image in range(N):
        for row in range(oh):
            rows = rules[0](row, h, oh, scale[0])
            for column in range(ow):
                columns = rules[1](column, w, ow, scale[1])
                for channel in range(C):
                    at = ((image * oh + row) * ow + column) * C + channel
                    total = Fraction(0)
                    for r, a in rows.items():
                        for c, b in columns.items():
                            source = ((image * h + r) * w + c) * C + channel
                            total += a * b * Fraction(x[source])
                            dx[source] += a * b * Fraction(dy[at])
                    y[at] = float(total)
    tensors = {
        "input": ("f", [N, h, w, C], x),
        "grad_output": ("f", [N, oh, ow, C], dy),
        "output_f64": ("d", [N, oh, ow, C], y),
        "grad_input_f64": ("d", [N, h, w, C], [float(value) for value in dx]),
    }
    return entry(name, "resample", params, ["input", "grad_output"], ["output", "grad_input"], tensors)


def conv_transpose(name, seed, size, c_in, c_out, kernel, stride=(1, 1), padding=(0, 0, 0, 0), extra=(0, 0), dilation=(1, 1), groups=1):
    """Every input pixel adds its multiple of the kernel to the output; kernels are PyTorch's [c_in, c_out / groups, kh, kw]."""
    (h, w), (kh, kw), (top, bottom, left, right) = size, kernel, padding
    oh = (h - 1) * stride[0] + (kh - 1) * dilation[0] + 1 + extra[0] - top - bottom
    ow = (w - 1) * stride[1] + (kw - 1) * dilation[1] + 1 + extra[1] - left - right
    per_in, per_out = c_in // groups, c_out // groups
    x, k, b = elements(seed, N * h * w * c_in), elements(seed + 1, c_in * per_out * kh * kw), elements(seed + 2, c_out)
    dy = elements(seed + 3, N * oh * ow * c_out)
    y = [b[i % c_out] for i in range(len(dy))]
    dx, dk = [0.0] * len(x), [0.0] * len(k)
    for image in range(N):
        for row in range(h):
            for column in range(w):
                for i in range(kh):
                    for j in range(kw):
                        r, c = row * stride[0] + i * dilation[0] - top, column * stride[1] + j * dilation[1] - left
                        if not (0 <= r < oh and 0 <= c < ow):
                            continue
                        for ci in range(c_in):
                            for o in range(per_out):
                                source = ((image * h + row) * w + column) * c_in + ci
                                weight = ((ci * per_out + o) * kh + i) * kw + j
                                at = ((image * oh + r) * ow + c) * c_out + ci // per_in * per_out + o
                                # Multiples of 1/4096 that floats hold exactly.
                                y[at] += x[source] * k[weight]
                                dx[source] += k[weight] * dy[at]
                                dk[weight] += x[source] * dy[at]
    params = {"stride": stride, "padding": padding, "output_padding": extra, "dilation": dilation, "groups": groups}
    tensors = {
        "input": ("f", [N, h, w, c_in], x),
        "kernel": ("f", [c_in, per_out, kh, kw], k),
        "bias": ("f", [c_out], b),
        "grad_output": ("f", [N, oh, ow, c_out], dy),
        "output_f64": ("d", [N, oh, ow, c_out], y),
        "grad_input_f64": ("d", [N, h, w, c_in], dx),
        "grad_kernel_f64": ("d", [c_in, per_out, kh, kw], dk),
    }
    return entry(name, "conv_transpose", params, ["input", "kernel", "bias", "grad_output"], ["output", "grad_input", "grad_kernel"], tensors)


def pooled(n, kernel, stride, begin, end):
    """The number of windows, rounded up, of which the last begins before the zeros at the end."""
    count = ceil(Fraction(n + begin + end - kernel, stride)) + 1
    return count if (count - 1) * stride < begin + n else count - 1


def cases():
    made, seed = [], 100
    for name, rule in [("nearest", nearest), ("bilinear", bilinear), ("corners", corners)]:
        for (h, w), (fh, fw) in [((3, 5), (2, 2)), ((4, 2), (3, 1)), ((5, 4), (Fraction(3, 2), Fraction(5, 2))), ((6, 4), (Fraction(1, 2), Fraction(3, 4)))]:
            size = (floor(h * fh), floor(w * fw))
            params = {"upsampling": name, "scale": [float(fh), float(fw)]}
            made.append(resample(f"{name}_{h}x{w}_to_{size[0]}x{size[1]}", seed, (h, w), size, rule, params, (fh, fw)))
            seed += 10
        # The distance of adjacent outputs follows from the sizes.
        for (h, w), size in [((3, 4), (7, 5)), ((1, 5), (4, 1))]:
            params = {"upsampling": name, "size": list(size)}
            made.append(resample(f"{name}_{h}x{w}_size_{size[0]}x{size[1]}", seed, (h, w), size, rule, params))
            seed += 10
    for (h, w), size in [((7, 9), (3, 2)), ((5, 6), (4, 5)), ((8, 5), (4, 3))]:
        made.append(resample(f"adaptive_{h}x{w}_to_{size[0]}x{size[1]}", seed, (h, w), size, adaptive, {"adaptive": list(size)}))
        seed += 10
    for (h, w), kernel, stride, pads, up in [((5, 6), 3, 2, (1, 1), False), ((6, 8), 3, 2, (1, 1), True), ((7, 5), 2, 3, (1, 0), True), ((4, 4), 3, 1, (0, 2), False)]:
        count = lambda n: pooled(n, kernel, stride, *pads) if up else (n + sum(pads) - kernel) // stride + 1
        params = {"kernel": kernel, "stride": stride, "begin": pads[0], "end": pads[1], "round_up": up}
        name = f"counted_{h}x{w}_k{kernel}_s{stride}_p{pads[0]}{pads[1]}" + ("_up" if up else "")
        made.append(resample(name, seed, (h, w), (count(h), count(w)), padded(kernel, stride, *pads), params))
        seed += 10
    for name, size, c_in, c_out, kernel, options in [
        ("2x2_s2", (3, 4), 4, 3, (2, 2), dict(stride=(2, 2))),
        ("3x3_s2_p1_op1", (4, 3), 3, 5, (3, 3), dict(stride=(2, 2), padding=(1, 1, 1, 1), extra=(1, 1))),
        ("4x3_s3x1_asymmetric", (3, 5), 2, 4, (4, 3), dict(stride=(3, 1), padding=(2, 0, 1, 1))),
        ("3x2_d3x2_op2", (4, 4), 4, 4, (3, 2), dict(dilation=(3, 2), padding=(1, 2, 0, 1), extra=(2, 1))),
        ("2x3_s4x3_gaps", (2, 3), 3, 2, (2, 3), dict(stride=(4, 3), extra=(3, 2))),
        ("3x3_2_groups", (4, 4), 6, 4, (3, 3), dict(stride=(2, 1), padding=(1, 1, 1, 1), groups=2)),
        ("3x3_depthwise", (4, 5), 4, 4, (3, 3), dict(stride=(2, 2), padding=(1, 1, 1, 1), extra=(1, 0), groups=4)),
    ]:
        made.append(conv_transpose("conv_transpose_" + name, seed, size, c_in, c_out, kernel, **options))
        seed += 10
    return made


def main():
    path = FOLDER / "manifest.json"
    manifest = json.loads(path.read_text())
    keep = [case for case in manifest["cases"] if case["kind"] not in ("resample", "conv_transpose")]
    manifest["cases"] = keep + cases()
    path.write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
