#!/usr/bin/env python3
"""Writes tests/corpus/weights: small GGUF files made by gguf-py (pip install gguf; 0.19.0 was used), the
format's own writer. They are seeds for fuzz_weights, and test_weights.c checks what is read from
them, so an error cannot be made twice in the same way by our reader and our own writer."""
import os
import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGMLQuantizationType as T, GGML_QUANT_SIZES, GGUFValueType as V

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "weights")
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "IQ4_XS", "Q2_K", "Q3_K",
         "Q4_K", "Q5_K", "Q6_K"]


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def path(name):
    return os.path.join(OUT, name + ".gguf")


def keys():
    w = GGUFWriter(path("keys"), "llama")
    for name, value in (("u8", 200), ("i8", -100), ("u16", 60000), ("i16", -30000), ("u32", 4000000000),
                        ("i32", -2000000000), ("u64", 2 ** 63 + 5), ("i64", -2 ** 62), ("f32", 0.1), ("f64", 0.1),
                        ("bool", True), ("str", "na\u00efve \U0001f600")):
        w.add_key_value("test." + name, value, {"u8": V.UINT8, "i8": V.INT8, "u16": V.UINT16, "i16": V.INT16,
                        "u32": V.UINT32, "i32": V.INT32, "u64": V.UINT64, "i64": V.INT64, "f32": V.FLOAT32,
                        "f64": V.FLOAT64, "bool": V.BOOL, "str": V.STRING}[name])
    w.add_array("test.i32s", [-1, 0, 7, 2 ** 31 - 1])
    w.add_array("test.f32s", [0.5, -0.25, 1e30])
    w.add_array("test.bools", [True, False, True])
    w.add_array("test.strs", ["", "a", "bc", "\u00e9t\u00e9", "x" * 300])
    finish(w)


def types(name, alignment=None, version=3):
    rng = np.random.default_rng(3)
    w = GGUFWriter(path(name), "llama")
    if alignment:
        w.add_custom_alignment(alignment)
    for i, t in enumerate(TYPES):
        elems, size = GGML_QUANT_SIZES[T[t]]
        rows = 1 + i % 3
        data = rng.integers(0, 256, (rows, 256 // elems * size), dtype=np.uint8)
        data[:, 0] = i  # what the test looks for
        w.add_tensor("test." + t, data, raw_dtype=T[t])
    w.add_tensor("test.deep", np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(5, 4, 3, 2))
    finish(w)
    if version != 3:
        with open(path(name), "r+b") as f:
            f.seek(4)
            f.write(version.to_bytes(4, "little"))


def split():
    for no in range(2):
        w = GGUFWriter(path("split-%05d-of-00002" % (no + 1)), "llama")
        if no == 0:
            w.add_string("test.name", "in two parts")
        w.add_uint16("split.no", no)
        w.add_uint16("split.count", 2)
        w.add_int32("split.tensors.count", 3)
        for i in ([0, 1], [2])[no]:
            w.add_tensor("test.%d" % i, np.full(8, i, np.float32))
        finish(w)


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    keys()
    types("types")
    types("types-v2-aligned-64", alignment=64, version=2)
    split()
