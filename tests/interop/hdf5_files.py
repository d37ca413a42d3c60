#!/usr/bin/env python3
"""HDF5 files in the layout of Keras 3, for tests of the reader.

  hdf5_files.py OUT_DIR     needs h5py, numpy

types.weights.h5: a model without optimizer, in the oldest format, with float16, float32 and float64, a depthwise convolution, and
datasets that are not weights: chunks, integers, text, big-endian numbers, and one stored in an object header. latest.weights.h5: the
same in the newest format, whose groups have links in their headers. heap.weights.h5: newest format, with more links than fit there.
"""
import sys
import h5py
import numpy as np


def write(name, libver, layers):
    with h5py.File(f"{sys.argv[1]}/{name}.weights.h5", "w", libver=libver) as file:
        for number in range(layers):
            group = file.create_group(f"layers/dense_{number}/vars" if number else "layers/dense/vars")
            group.attrs["name"] = f"dense{number}"
            group["0"] = np.arange(6, dtype=np.float64).reshape(3, 2)
            group["1"] = np.array([0.5, -0.5], dtype=np.float16)
        if layers > 2:
            return
        group = file.create_group("layers/depthwise_conv2d/vars")
        group["0"] = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2)
        group = file.create_group("layers/other/vars")
        group.create_dataset("0", data=np.zeros((3, 2), np.float32), chunks=(1, 2), compression="gzip")
        group.create_dataset("1", data=np.arange(2))
        group.create_dataset("2", data=np.arange(2, dtype=">f4"))
        group.create_dataset("3", data="text")
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((2,))
        made = h5py.h5d.create(group.id, b"4", h5py.h5t.IEEE_F32LE, space, compact)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([3, 4], dtype=np.float32))


write("types", "earliest", 1)
write("latest", "latest", 1)
write("heap", "latest", 12)
