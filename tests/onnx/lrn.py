"""LRN for ONNX's reference evaluator: that of ONNX 1.22 computes as many channels as there are images, and leaves the squares of the
others out. The cases of ONNX's backend tests have as many of both."""
import numpy as np
from onnx.reference.op_run import OpRun


class LRN(OpRun):
    def _run(self, x, alpha=1e-4, beta=0.75, bias=1.0, size=None):
        squares = np.zeros_like(x)
        for channel in range(x.shape[1]):
            window = slice(max(0, channel - (size - 1) // 2), channel + size // 2 + 1)
            squares[:, channel] = (x[:, window] ** 2).sum(axis=1)
        return ((x / (bias + alpha / size * squares) ** beta).astype(x.dtype),)
