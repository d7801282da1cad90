#!/usr/bin/env python3
"""Writes tests/golden/dtype/TYPE.bin, blocks of random bits with finite scales, and TYPE.f32, what they
decode to according to gguf-py's numpy code (pip install gguf; 0.19.0 was used), an implementation
that shares nothing with core/dtype.c. The first block of each file has all bits set except in its
scales, the last one has a subnormal scale."""
import os
import numpy as np
from gguf.constants import GGMLQuantizationType as T, GGML_QUANT_SIZES
from gguf.quants import dequantize

# Byte offsets of the halves (scales and minima) of a block.
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "IQ4_NL": [0],
          "IQ4_XS": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def main():
    out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dtype")
    os.makedirs(out, exist_ok=True)
    rng = np.random.default_rng(20240607)
    for name, places in HALVES.items():
        elems, size = GGML_QUANT_SIZES[T[name]]
        n = 6 if elems == 32 else 3
        blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
        blocks[0] = 255
        for i in range(n):
            for p in places:
                half = np.float16(rng.normal() * (2.0 ** rng.integers(-12, 8)))
                if i == n - 1:
                    half = np.float16(rng.integers(1, 1024) * 2.0 ** -24)
                blocks[i, p:p + 2] = np.frombuffer(half.tobytes(), np.uint8)
        values = dequantize(blocks.reshape(-1), T[name]).astype("<f4")
        assert values.size == n * elems and np.isfinite(values).all()
        blocks.tofile(os.path.join(out, name + ".bin"))
        values.tofile(os.path.join(out, name + ".f32"))


if __name__ == "__main__":
    main()
