#!/usr/bin/env python3
"""Writes small networks as ONNX files, with inputs and the outputs of ONNX's reference evaluator.

  networks.py FOLDER

For each network NAME, FOLDER gets NAME.onnx, and NAME.x.npy and NAME.y.npy (float32, images NCHW). They have what PyTorch's exporters
do not write for the networks of tests/interop: operators of other exporters, shared weights, and other forms of the same operator.
onnxruntime gives the same outputs. The padding of pooling is symmetric, and the images of SAME_UPPER have even sizes: for others the
evaluator of ONNX 1.22 fails, or gives other shapes than onnxruntime and this crate.
"""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from lrn import LRN

folder = sys.argv[1]
random = np.random.default_rng(7)


def network(name, shape, nodes, weights, output_rank, opset=20, ir_version=9):
    """Nodes are (operator, inputs, output, attributes); weights are arrays by name."""
    made = [helper.make_node(op, inputs, [output], name=f"{name}/{output}", **attributes) for op, inputs, output, attributes in nodes]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape[1:]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * output_rank)
    initializers = [numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items()]
    graph = helper.make_graph(made, name, [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    onnx.checker.check_model(model, full_check=True)
    values = random.standard_normal(shape).astype(np.float32)
    [result] = ReferenceEvaluator(model, new_ops=[LRN]).run(["y"], {"x": values})
    onnx.save(model, f"{folder}/{name}.onnx")
    np.save(f"{folder}/{name}.x.npy", values)
    np.save(f"{folder}/{name}.y.npy", np.asarray(result, np.float32))


def weight(*shape):
    return (random.standard_normal(shape) * 0.5).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


# Biases by Add, dense kernels that are not transposed, alpha and beta.
network("biases", [3, 2, 5, 4], [
    ("Conv", ["x", "k"], "c", {"kernel_shape": [3, 3], "strides": [2, 1]}),
    ("Add", ["c", "cb"], "d", {}),
    ("Flatten", ["d"], "f", {}),
    ("MatMul", ["f", "w1"], "m", {}),
    ("Add", ["b1", "m"], "a", {}),
    ("Relu", ["a"], "r", {}),
    ("Gemm", ["r", "w2", "b2"], "y", {"alpha": 0.5, "beta": 2.0}),
], {"k": weight(3, 2, 3, 3), "cb": weight(3, 1, 1), "w1": weight(12, 5), "b1": weight(5), "w2": weight(5, 4), "b2": weight(4)}, 2)

# Constants for each channel and numbers, in both orders, and a constant that is not stored.
network("scales", [2, 3, 5, 4], [
    ("BatchNormalization", ["x", "s", "b", "m", "v"], "n", {}),
    ("Unsqueeze", ["f", "axes"], "g", {}),
    ("Mul", ["n", "g"], "p", {}),
    ("Unsqueeze", ["c", "axes"], "d", {}),
    ("Add", ["p", "d"], "q", {}),
    ("Mul", ["two", "q"], "r", {}),
    ("LeakyRelu", ["r"], "t", {"alpha": 0.1}),
    ("Add", ["row", "t"], "u", {}),
    ("ConstantOfShape", ["shape"], "fill", {"value": numpy_helper.from_array(np.array([0.25], np.float32))}),
    ("Mul", ["u", "fill"], "y", {}),
], {"s": weight(3), "b": weight(3), "m": weight(3), "v": weight(3) ** 2 + np.float32(0.5), "f": weight(3), "c": weight(3), "axes": ints(1, 2),
    "two": np.float32(2.5), "row": weight(1, 3, 1, 1), "shape": ints(3, 1, 1)}, 4)

# The batch as a computed extent, as of x.view(x.size(0), -1), and a softmax.
network("shapes", [2, 3, 4, 4], [
    ("Shape", ["x"], "s", {}),
    ("Gather", ["s", "zero"], "n", {"axis": 0}),
    ("Unsqueeze", ["n", "axis"], "u", {}),
    ("Constant", [], "rest", {"value_ints": [-1]}),
    ("Concat", ["u", "rest"], "t", {"axis": 0}),
    ("Reshape", ["x", "t"], "f", {}),
    ("Gemm", ["f", "w"], "g", {"transB": 1}),
    ("Softmax", ["g"], "y", {"axis": -1}),
], {"zero": np.array(0, np.int64), "axis": ints(0), "w": weight(6, 48)}, 2)

# Padding by another node and by rule, windows in other forms, groups.
network("windows", [2, 4, 9, 8], [
    ("Pad", ["x", "pads", "fill"], "p", {}),
    ("Conv", ["p", "k1", "b1"], "a", {"kernel_shape": [3, 2], "group": 2, "pads": [0, 1, 0, 0]}),
    ("Conv", ["a", "k2"], "b", {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("MaxPool", ["b"], "c", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("AveragePool", ["c"], "d", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 0}),
    ("MaxPool", ["d"], "e", {"kernel_shape": [1, 2], "strides": [1, 1], "ceil_mode": 1}),
    ("Conv", ["e", "k3"], "y", {"kernel_shape": [2, 2], "dilations": [2, 1]}),
], {"pads": ints(0, 0, 1, 1, 0, 0, 0, 1), "fill": np.array(0, np.float32), "k1": weight(6, 2, 3, 2), "b1": weight(6), "k2": weight(4, 6, 3, 3), "k3": weight(3, 4, 2, 2)}, 4)

# Pooling with options.
network("pools", [2, 3, 8, 9], [
    ("AveragePool", ["x"], "a", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("MaxPool", ["a"], "b", {"kernel_shape": [2, 3], "strides": [2, 3], "ceil_mode": 1}),
    ("AveragePool", ["b"], "y", {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}),
], {}, 4)

# Transposed convolutions, with sizes by every attribute. The evaluator of ONNX 1.22 computes groups of one channel alone, and those
# without the bias.
network("transposed", [2, 4, 3, 4], [
    ("ConvTranspose", ["x", "k1", "b1"], "a", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    ("Relu", ["a"], "r", {}),
    ("ConvTranspose", ["r", "k2"], "b", {"group": 6, "dilations": [2, 1]}),
    ("Add", ["b", "b2"], "d", {}),
    ("ConvTranspose", ["d", "k3"], "c", {"strides": [2, 1], "auto_pad": "SAME_UPPER"}),
    ("ConvTranspose", ["c", "k4"], "y", {"strides": [1, 2], "auto_pad": "SAME_LOWER", "output_shape": [17, 19]}),
], {"k1": weight(4, 6, 3, 3), "b1": weight(6), "k2": weight(6, 1, 2, 3), "b2": weight(6, 1, 1), "k3": weight(6, 3, 3, 2), "k4": weight(3, 2, 3, 4)}, 4)

# Every form of resizing that has the pixels of nn.Upsample, with a size computed from another image.
network("resized", [2, 2, 4, 3], [
    ("Resize", ["x", "", "s23"], "a", {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    ("Resize", ["x", "", "s23"], "b", {"mode": "nearest"}),
    ("Add", ["a", "b"], "ab", {}),
    ("Resize", ["x", "", "s2"], "c", {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}),
    ("Resize", ["x", "", "", "size"], "d", {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    ("Shape", ["d"], "shape", {}),
    ("Slice", ["shape", "two", "four", "zero"], "rows", {}),
    ("Resize", ["c", "", "", "rows"], "e", {"mode": "linear", "axes": [2, 3]}),
    ("Resize", ["ab", "", "", "rows"], "f", {"mode": "linear", "axes": [2, 3]}),
    ("Concat", ["d", "e", "f"], "y", {"axis": 1}),
], {"s23": np.array([1, 1, 2, 3], np.float32), "s2": np.array([1, 1, 2, 2], np.float32), "size": ints(2, 2, 7, 8), "zero": ints(0), "two": ints(2), "four": ints(4)}, 4)

# The operator before Resize.
network("upsampled", [2, 3, 2, 3], [
    ("Upsample", ["x", "scales"], "y", {"mode": "nearest"}),
], {"scales": np.array([1, 1, 3, 2], np.float32)}, 4, opset=9)

# Pooled images as features and as images, concatenation, sums of three, a product.
network("joins", [2, 3, 6, 6], [
    ("Conv", ["x", "k"], "c", {"kernel_shape": [1, 1]}),
    ("Sigmoid", ["c"], "s", {}),
    ("Mul", ["c", "s"], "m", {}),
    ("Sum", ["m", "c", "s"], "t", {}),
    ("Concat", ["t", "x"], "j", {"axis": -3}),
    ("GlobalAveragePool", ["j"], "g", {}),
    ("Conv", ["g", "k2", "b2"], "q", {"kernel_shape": [1, 1]}),
    ("Squeeze", ["q", "axes"], "f", {}),
    ("Unsqueeze", ["f", "axes"], "u", {}),
    ("Flatten", ["u"], "v", {}),
    ("GlobalMaxPool", ["j"], "h", {}),
    ("Flatten", ["h"], "w", {}),
    ("Concat", ["v", "w"], "o", {"axis": 1}),
    ("Gemm", ["o", "d"], "y", {}),
], {"k": weight(4, 3, 1, 1), "k2": weight(5, 7, 1, 1), "b2": weight(5), "axes": ints(2, 3), "d": weight(12, 3)}, 2)

# One weight for two layers, by its name and by an Identity, and every activation.
network("shared", [2, 2, 5, 5], [
    ("Conv", ["x", "k", "b"], "a", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("Clip", ["a", "low", "high"], "c", {}),
    ("Conv", ["c", "k", "b"], "d", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("HardSwish", ["d"], "e", {}),
    ("HardSigmoid", ["e"], "f", {"alpha": 1 / 6, "beta": 0.5}),
    ("Clip", ["f", "minus", "plus"], "g", {}),
    ("LeakyRelu", ["g"], "h", {"alpha": 0.3}),
    ("Gelu", ["h"], "i", {}),
    ("Gelu", ["i"], "j", {"approximate": "tanh"}),
    ("Tanh", ["j"], "l", {}),
    ("ReduceMean", ["l", "axes"], "y", {"keepdims": 0}),
], {"k": weight(2, 2, 3, 3), "b": weight(2), "low": np.array(0, np.float32), "high": np.array(6, np.float32),
    "minus": np.array(-0.5, np.float32), "plus": np.array(0.5, np.float32), "axes": ints(-1, -2)}, 2)

# Squeeze and excitation, with both forms of the mean, and the factors on either side.
network("gates", [2, 3, 5, 4], [
    ("Conv", ["x", "k"], "c", {"kernel_shape": [1, 1]}),
    ("GlobalAveragePool", ["c"], "g", {}),
    ("Conv", ["g", "k1", "b1"], "s", {"kernel_shape": [1, 1]}),
    ("Relu", ["s"], "r", {}),
    ("Conv", ["r", "k2", "b2"], "e", {"kernel_shape": [1, 1]}),
    ("Sigmoid", ["e"], "f", {}),
    ("Mul", ["c", "f"], "m", {}),
    ("ReduceMean", ["m", "axes"], "h", {"keepdims": 1}),
    ("Mul", ["h", "m"], "y", {}),
], {"k": weight(4, 3, 1, 1), "k1": weight(2, 4, 1, 1), "b1": weight(2), "k2": weight(4, 2, 1, 1), "b2": weight(4), "axes": ints(2, 3)}, 4)

# Norms of examples: of groups, channels, positions, all elements and features, with a shift or without.
network("norms", [2, 6, 5, 4], [
    ("GroupNormalization", ["x", "gs", "gb"], "g", {"num_groups": 3}),
    ("Sigmoid", ["g"], "h", {}),
    ("InstanceNormalization", ["h", "is", "ib"], "i", {"epsilon": 1e-3}),
    ("Transpose", ["i"], "t", {"perm": [0, 2, 3, 1]}),
    ("LayerNormalization", ["t", "ps", "pb"], "p", {"axis": -1, "epsilon": 1e-6}),
    ("Transpose", ["p"], "u", {"perm": [0, 3, 1, 2]}),
    ("Tanh", ["u"], "v", {}),
    ("LayerNormalization", ["v", "es", "eb"], "e", {"axis": 1}),
    ("Flatten", ["e"], "f", {}),
    ("Gemm", ["f", "w"], "d", {}),
    ("LayerNormalization", ["d", "fs"], "n", {"axis": 1}),
    ("LogSoftmax", ["n"], "y", {"axis": -1}),
], {"gs": weight(6), "gb": weight(6), "is": weight(6), "ib": weight(6), "ps": weight(6), "pb": weight(6), "es": weight(6, 5, 4),
    "eb": weight(6, 5, 4), "w": weight(120, 7), "fs": weight(7)}, 2, opset=21, ir_version=10)

# Group norms as PyTorch's exporters write them, with scale and shift and without.
network("reshaped", [2, 6, 5, 4], [
    ("Reshape", ["x", "grouped"], "g", {}),
    ("InstanceNormalization", ["g", "ones", "zeros"], "i", {"epsilon": 1e-3}),
    ("Shape", ["x"], "s", {}),
    ("Reshape", ["i", "s"], "b", {}),
    ("Mul", ["b", "norm.weight"], "m", {}),
    ("Add", ["m", "norm.bias"], "a", {}),
    ("Relu", ["a"], "r", {}),
    ("Reshape", ["r", "grouped"], "h", {}),
    ("InstanceNormalization", ["h", "ones", "zeros"], "j", {}),
    ("Reshape", ["j", "s"], "k", {}),
    ("GlobalAveragePool", ["k"], "y", {}),
], {"grouped": ints(0, 3, -1), "ones": np.ones(3, np.float32), "zeros": np.zeros(3, np.float32), "norm.weight": weight(6, 1, 1),
    "norm.bias": weight(6, 1, 1)}, 4)

# Local response norms, and the shuffles of channels as PyTorch writes them, with every extent known or one left open.
network("channels", [2, 6, 4, 3], [
    ("LRN", ["x"], "l", {"size": 3, "alpha": 0.5, "beta": 0.6, "bias": 2.0}),
    ("Reshape", ["l", "groups"], "g", {}),
    ("Transpose", ["g"], "t", {"perm": [0, 2, 1, 3, 4]}),
    ("Reshape", ["t", "images"], "s", {}),
    ("Reshape", ["flat", "kernel"], "k", {}),
    ("Conv", ["s", "k"], "c", {"group": 2}),
    ("LRN", ["c"], "m", {"size": 5}),
    ("Reshape", ["m", "open"], "h", {}),
    ("Transpose", ["h"], "u", {"perm": [0, 2, 1, 3, 4]}),
    ("Reshape", ["u", "images8"], "y", {}),
], {"groups": ints(2, 3, 2, 4, 3), "images": ints(2, 6, 4, 3), "flat": weight(8, 3), "kernel": ints(0, -1, 1, 1), "open": ints(0, 2, -1, 4, 3), "images8": ints(-1, 8, 4, 3)}, 4)
