#!/usr/bin/env python3
"""Gives a light model of ONNX's backend tests random weights, and evaluates it with ONNX's reference evaluator.

  light.py MODEL SIZE FOLDER

In a light model each weight is a ConstantOfShape of 0.02, so that most outputs are equal whatever the network is. FOLDER gets
network.onnx, for images of SIZE rows and columns, x.npy and y.npy (images NCHW). A softmax at the end is left out: the evaluator of
ONNX 1.22 computes that of earlier versions over another axis.
"""
import sys

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

model = onnx.load(sys.argv[1])
size, folder = int(sys.argv[2]), sys.argv[3]
random = np.random.default_rng(7)
graph = model.graph
shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
roles = {}
for node in graph.node:
    for position, name in enumerate(node.input):
        roles.setdefault(name, (node.op_type, position))


def weights(name, shape):
    role = roles.get(name)
    if role == ("BatchNormalization", 4):
        return random.uniform(0.5, 2.0, shape)
    if role in [("BatchNormalization", 1), ("Unsqueeze", 0)]:
        return random.uniform(0.5, 1.5, shape)
    if len(shape) > 1:
        # Keeps the variance behind a ReLU.
        return random.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
    return random.standard_normal(shape) * 0.1


kept = []
for node in graph.node:
    if node.op_type == "ConstantOfShape":
        value = weights(node.output[0], tuple(shapes[node.input[0]])).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    else:
        kept.append(node)
del graph.node[:]
graph.node.extend(kept)
if graph.node[-1].op_type == "Softmax":
    graph.output[0].name = graph.node[-1].input[0]
    del graph.node[-1]
constants = {tensor.name for tensor in graph.initializer}
[given] = [value for value in graph.input if value.name not in constants]
extents = given.type.tensor_type.shape.dim
extents[2].dim_value = extents[3].dim_value = size
shape = [extent.dim_value for extent in extents]
x = random.standard_normal(shape).astype(np.float32)
[y] = ReferenceEvaluator(model).run(None, {given.name: x})
onnx.save(model, f"{folder}/network.onnx")
np.save(f"{folder}/x.npy", x)
np.save(f"{folder}/y.npy", np.asarray(y, np.float32))
