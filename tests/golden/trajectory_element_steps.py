#!/usr/bin/env python3
"""Make the trajectories in which Adam's bias correction counts, for each element, the steps in which it was trained.

Usage: python3 tests/golden/trajectory_element_steps.py

Writes tests/golden/trajectory/*_element_steps.safetensors and replaces these cases in tests/golden/manifest.json. Needs
only Python's standard library, takes a few seconds, and gives the same bytes every time. Network, gradients and
updates are written out from their definitions, in Python's floats (f64); nothing is shared with the crate.

Inputs, initial weights and the masks of the `change` cases are those of other trajectories. Before it writes a case,
the program repeats these with a bias correction that counts all steps, and compares its weights with their golden ones,
which other libraries computed.
"""

import json
import math
import struct
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SUFFIX = "_element_steps"
STEPS, BATCH, CLASSES = 20, 3, 5
SHAPES = {
    "conv1.kernel": [3, 3, 2, 4],
    "conv1.bias": [4],
    "conv2.kernel": [3, 3, 4, 3],
    "conv2.bias": [3],
    "dense.kernel": [48, 5],
    "dense.bias": [5],
}
FORMATS = {"F64": ("d", 8), "F32": ("f", 4), "I32": ("i", 4), "U8": ("B", 1)}


def size(shape):
    return math.prod(shape)


def read(path):
    """The tensors of a safetensors file, as flat lists."""
    raw = path.read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        letter, width = FORMATS[entry["dtype"]]
        data = raw[8 + length + begin : 8 + length + end]
        tensors[name] = list(struct.unpack(f"<{len(data) // width}{letter}", data))
    return tensors


def write(path, tensors):
    """A safetensors file: the header's length, the header, and the data in the header's order."""
    header, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        packed = struct.pack(f"<{len(values)}{FORMATS[dtype][0]}", *values)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def conv(side, c_in, c_out, stride, before):
    """The products of a 3x3 convolution on a side x side image, as (output, input, kernel) indices of each."""
    out = side // stride
    products = []
    for row in range(out):
        for column in range(out):
            for i in range(3):
                for j in range(3):
                    y, x = row * stride + i - before, column * stride + j - before
                    if 0 <= y < side and 0 <= x < side:
                        for ci in range(c_in):
                            for co in range(c_out):
                                products.append((
                                    (row * out + column) * c_out + co,
                                    (y * side + x) * c_in + ci,
                                    ((i * 3 + j) * c_in + ci) * c_out + co,
                                ))
    return products


CONV1 = conv(8, 2, 4, 1, 1)
CONV2 = conv(8, 4, 3, 2, 0)


def convolve(products, image, kernel, bias, outputs):
    result = [bias[index % len(bias)] for index in range(outputs)]
    for o, i, k in products:
        result[o] += image[i] * kernel[k]
    return result


def loss_and_gradients(weights, images, labels):
    """Mean cross-entropy of a batch, the gradient of every parameter, and the smallest magnitude of a ReLU input."""
    gradients = {name: [0.0] * size(shape) for name, shape in SHAPES.items()}
    total, smallest = 0.0, math.inf
    for n, label in enumerate(labels):
        image = images[n * 128 : (n + 1) * 128]
        before = convolve(CONV1, image, weights["conv1.kernel"], weights["conv1.bias"], 256)
        smallest = min(smallest, min(map(abs, before)))
        hidden = [max(x, 0.0) for x in before]
        flat = convolve(CONV2, hidden, weights["conv2.kernel"], weights["conv2.bias"], 48)
        dense = weights["dense.kernel"]
        logits = [
            weights["dense.bias"][c] + math.fsum(flat[i] * dense[i * CLASSES + c] for i in range(48))
            for c in range(CLASSES)
        ]
        largest = max(logits)
        exponentials = [math.exp(x - largest) for x in logits]
        normalizer = math.fsum(exponentials)
        total += math.log(normalizer) + largest - logits[label]
        d_logits = [(e / normalizer - (c == label)) / BATCH for c, e in enumerate(exponentials)]
        d_flat = [0.0] * 48
        for i in range(48):
            for c in range(CLASSES):
                gradients["dense.kernel"][i * CLASSES + c] += flat[i] * d_logits[c]
                d_flat[i] += dense[i * CLASSES + c] * d_logits[c]
        for c in range(CLASSES):
            gradients["dense.bias"][c] += d_logits[c]
        d_hidden = [0.0] * 256
        for o, i, k in CONV2:
            gradients["conv2.kernel"][k] += hidden[i] * d_flat[o]
            d_hidden[i] += weights["conv2.kernel"][k] * d_flat[o]
        for o, d in enumerate(d_flat):
            gradients["conv2.bias"][o % 3] += d
        d_before = [d if x > 0.0 else 0.0 for d, x in zip(d_hidden, before)]
        for o, i, k in CONV1:
            gradients["conv1.kernel"][k] += image[i] * d_before[o]
        for o, d in enumerate(d_before):
            gradients["conv1.bias"][o % 4] += d
    return total / BATCH, gradients, smallest


def norm(values):
    return math.sqrt(math.fsum(x * x for x in values))


def train(source, masks, rule, thawed_slots, count_elements):
    """All steps of a run; `masks` maps the step from which masks are in effect to the frozen bits of each parameter."""
    weights = {name: list(source[f"init.{name}"]) for name in SHAPES}
    slots = ["exp_avg", "exp_avg_sq"] + (["max_exp_avg_sq"] if rule["type"] == "amsgrad" else [])
    state = {slot: {name: [0.0] * size(shape) for name, shape in SHAPES.items()} for slot in slots}
    trained = {name: [0] * size(shape) for name, shape in SHAPES.items()}
    run = {"loss": [], "all": [], "trainable": [], "smallest": math.inf}
    run["weights"] = {name: list(initial) for name, initial in weights.items()}
    frozen = masks[0]
    for t in range(STEPS):
        if t in masks:
            for name in SHAPES:
                for i, (old, new) in enumerate(zip(frozen[name], masks[t][name])):
                    if old and not new and thawed_slots == "reset":
                        trained[name][i] = 0
                        for slot in slots:
                            state[slot][name][i] = 0.0
            frozen = masks[t]
        images = source["input"][t * BATCH * 128 : (t + 1) * BATCH * 128]
        labels = source["labels"][t * BATCH : (t + 1) * BATCH]
        loss, gradients, smallest = loss_and_gradients(weights, images, labels)
        run["smallest"] = min(run["smallest"], smallest)
        run["loss"].append(loss)
        run["all"].append(norm(g for name in SHAPES for g in gradients[name]))
        run["trainable"].append(
            norm(g for name in SHAPES for g, f in zip(gradients[name], frozen[name]) if not f)
        )
        if t == 0:
            run["grad0"] = gradients
        for name in SHAPES:
            for i in range(size(SHAPES[name])):
                if frozen[name][i]:
                    continue
                g, w = gradients[name][i], weights[name][i]
                if rule["type"] == "adamw":
                    w -= rule["lr"] * rule["weight_decay"] * w
                else:
                    g += rule["weight_decay"] * w
                trained[name][i] += 1
                n = trained[name][i] if count_elements else t + 1
                m = rule["beta1"] * state["exp_avg"][name][i] + (1.0 - rule["beta1"]) * g
                v = rule["beta2"] * state["exp_avg_sq"][name][i] + (1.0 - rule["beta2"]) * g * g
                state["exp_avg"][name][i], state["exp_avg_sq"][name][i] = m, v
                if rule["type"] == "amsgrad":
                    v = max(v, state["max_exp_avg_sq"][name][i])
                    state["max_exp_avg_sq"][name][i] = v
                first, second = 1.0 - rule["beta1"] ** n, 1.0 - rule["beta2"] ** n
                weights[name][i] = w - rule["lr"] * (m / first) / (math.sqrt(v / second) + rule["eps"])
        for name in SHAPES:
            run["weights"][name] += weights[name]
    run["state"] = state
    return run


def masks_of(source, steps):
    return {step: {name: source[f"mask{step}.{name}"] for name in SHAPES} for step in steps}


def changing_masks(seed, steps):
    """Random masks with half of all elements frozen, other ones from each of these steps on."""
    state, masks = seed, {}
    for step in steps:
        masks[step] = {}
        for name, shape in SHAPES.items():
            bits = []
            for _ in range(size(shape)):
                state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
                bits.append(state >> 63)
            masks[step][name] = bits
    return masks


def check_against(source, params):
    """Repeats an existing trajectory, with a bias correction that counts all steps, and compares all its weights."""
    masks = masks_of(source, [change["from_step"] for change in params["mask_changes"]])
    run = train(source, masks, params["optimizer"], params["thawed_slots"], count_elements=False)
    for name in SHAPES:
        golden = source[f"weights.{name}_f64"]
        error = norm(a - b for a, b in zip(run["weights"][name], golden)) / norm(golden)
        assert error < 1e-12, f"{name}: relative error {error}"


def tensors_of(source, masks, run):
    tensors = {
        "input": ("F32", [STEPS, BATCH, 8, 8, 2], source["input"]),
        "labels": ("I32", [STEPS, BATCH], source["labels"]),
    }
    for step, bits in masks.items():
        for name, shape in SHAPES.items():
            tensors[f"mask{step}.{name}"] = ("U8", shape, bits[name])
    for name, shape in SHAPES.items():
        tensors[f"init.{name}"] = ("F32", shape, source[f"init.{name}"])
        tensors[f"grad0.{name}_f64"] = ("F64", shape, run["grad0"][name])
        tensors[f"weights.{name}_f64"] = ("F64", [STEPS + 1] + shape, run["weights"][name])
        for slot, values in run["state"].items():
            tensors[f"state.{slot}.{name}_f64"] = ("F64", shape, values[name])
    for name, key in [("loss", "loss"), ("grad_norm_trainable", "trainable"), ("grad_norm_all", "all")]:
        tensors[f"{name}_f64"] = ("F64", [STEPS], run[key])
    return tensors


def main():
    manifest_path = FOLDER / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    others = [entry for entry in manifest["cases"] if not entry["name"].endswith(SUFFIX)]
    named = {entry["name"]: entry for entry in others}
    every = [0, 2, 5, 6, 9, 12, 13, 17]
    # Name, other case with the same input, optimizer, thawed slots, seed of changing masks.
    cases = [
        ("traj_adam_change_keep", "traj_adam_change_keep", "adam", "keep", None),
        ("traj_adam_change_reset", "traj_adam_change_reset", "adam", "reset", None),
        ("traj_adamw_changes_keep", "traj_adamw_every_layer_frozen", "adamw", "keep", 21),
        ("traj_amsgrad_changes_keep", "traj_adam_l2", "amsgrad", "keep", 22),
        ("traj_adam_l2_changes_reset", "traj_adam_l2", "adam", "reset", 23),
    ]
    for name, like, kind, thawed_slots, seed in cases:
        entry = named[like]
        params = json.loads(json.dumps(entry["params"]))
        source = read(FOLDER / entry["file"])
        check_against(source, params)
        steps = [change["from_step"] for change in params["mask_changes"]] if seed is None else every
        masks = masks_of(source, steps) if seed is None else changing_masks(seed, steps)
        rule = dict(params["optimizer"], type=kind)
        rule["formula"] = rule["formula"].replace(
            "t = global step, 1 on the first", "t = steps in which the element was trained, this one included"
        )
        if kind == "amsgrad":
            rule["formula"] = rule["formula"].replace("sqrt(v/", "sqrt(v_max/") + "; v_max = max(v_max, v)"
        run = train(source, masks, rule, thawed_slots, count_elements=True)
        assert run["smallest"] > 1e-5, f"{name}: a ReLU input of {run['smallest']}"
        elements = sum(map(size, SHAPES.values()))
        fractions = [sum(sum(bits.values(), [])) / elements for bits in masks.values()]
        params.update({
            "optimizer": rule,
            "lr_schedule": [rule["lr"]] * STEPS,
            "mask_variant": "as in " + like if seed is None else "random 50% frozen in every tensor, often changed",
            "mask_changes": [{"from_step": step, "prefix": f"mask{step}"} for step in masks],
            "thawed_slots": thawed_slots,
            "bias_correction": "element steps",
            "frozen_fraction": [round(fraction, 3) for fraction in fractions],
            "slots": list(run["state"]),
            "min_abs_relu_input": float(f"{run['smallest']:.3g}"),
        })
        tensors = tensors_of(source, masks, run)
        tensors["lr_f64"] = ("F64", [STEPS], params["lr_schedule"])
        file = f"trajectory/{name}{SUFFIX}.safetensors"
        write(FOLDER / file, tensors)
        others.append({
            "name": name + SUFFIX,
            "kind": "trajectory",
            "file": file,
            "params": params,
            "references": ["trajectory_element_steps.py, f64"],
            "tensors": {name: {"dtype": of[0], "shape": of[1]} for name, of in tensors.items()},
        })
        print(f"{name}{SUFFIX}: smallest ReLU input {run['smallest']:.1e}")
    manifest["cases"] = others
    manifest_path.write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
