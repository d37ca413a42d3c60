#!/usr/bin/env python3
"""Checks an ONNX model and evaluates it with ONNX's reference evaluator.

  evaluate.py MODEL INPUT SHAPE OUTPUT    INPUT has one number a line; SHAPE is like 2,3,8,8

OUTPUT gets the number of true elements in the initializers named mask.*, then one number a line.
"""
import sys

import numpy
import onnx
from onnx.reference import ReferenceEvaluator

from lrn import LRN

model_file, given, shape, output = sys.argv[1:]
model = onnx.load(model_file)
onnx.checker.check_model(model, full_check=True)
values = numpy.loadtxt(given, dtype=numpy.float32).reshape([int(extent) for extent in shape.split(",")])
[result] = ReferenceEvaluator(model, new_ops=[LRN]).run(None, {model.graph.input[0].name: values})
masks = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name.startswith("mask.")]
with open(output, "w") as file:
    print(sum(int(mask.sum()) for mask in masks), file=file)
    for value in result.ravel():
        print(repr(float(value)), file=file)
