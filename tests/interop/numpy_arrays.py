#!/usr/bin/env python3
"""Arrays written by NumPy, for tests of the reader.

  numpy_arrays.py OUT_DIR     needs numpy

arrays.npz (no compression) and packed.npz (deflate): `T` and `T.fortran` for element types T, in both orders of axes, with the
elements 0, 1, ... (1 and 0 alternately for bool) of shape [2, 3, 4]; `big` is big-endian, `one` and `number` have one and no axis.
"""
import sys
import numpy as np

arrays = {"big": np.arange(24, dtype=">f8").reshape(2, 3, 4), "one": np.arange(3, dtype=np.float32), "number": np.float32(7),
          "negative": np.array([-1, -(2**62)], dtype=np.int64), "none": np.zeros((0, 5), dtype=np.float32)}
for name in ("float16", "float32", "float64", "uint8", "int16", "int32", "int64", "bool"):
    numbers = np.arange(24) % 2 == 0 if name == "bool" else np.arange(24)
    arrays[name] = numbers.astype(name).reshape(2, 3, 4)
    arrays[name + ".fortran"] = np.asfortranarray(arrays[name])
np.savez(sys.argv[1] + "/arrays.npz", **arrays)
np.savez_compressed(sys.argv[1] + "/packed.npz", **arrays)
