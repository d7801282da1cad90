#!/usr/bin/env python3
"""Asks others about the models of this folder; nothing here is needed to run the tests.

  check.py llama_cpp           in an environment with llama-cpp-python: the table of README.md
  check.py converter SOURCE    in make.py's environment: SOURCE is llama.cpp's source; its own converter must
                               give the same tensors and keys (the tokenizer is left out)
"""
import glob
import json
import math
import os
import sys
import tempfile

import numpy as np

F32, F16 = 0, 1  # ggml's numbers
HERE = os.path.dirname(os.path.abspath(__file__))


# What llama.cpp does not read from a file of these architectures, told to it by hand.
TOLD = {"llama-hd128-yarn-params": dict(yarn_beta_fast=8.0, yarn_beta_slow=2.0, kv_overrides={
    "llama.rope.scaling.attn_factor": 1.5 / (0.1 * math.log(4.0) + 1)})}


def llama_cpp_logits(llama_cpp, path, ids, n_ctx, cache, told):
    llm = llama_cpp.Llama(path, n_ctx=n_ctx, n_batch=512, logits_all=True, type_k=cache, type_v=cache,
                          n_threads=2, flash_attn=False, swa_full=True, verbose=False, **told)
    llm.eval(ids)
    return np.array(llm.scores[:len(ids)], np.float64)


def llama_cpp_exact(llama_cpp, path, ids, n_ctx, told):
    """As exact as llama.cpp is: F32 cache, and weights widened to F32 (beside F16 ones it rounds
    activations to F16 too)."""
    with tempfile.TemporaryDirectory() as folder:
        wide = os.path.join(folder, "wide.gguf")
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype, params.allow_requantize, params.nthread = 0, True, 1
        if llama_cpp.llama_model_quantize(path.encode(), wide.encode(), params):
            sys.exit("cannot widen " + path)
        return llama_cpp_logits(llama_cpp, wide, ids, n_ctx, F32, told)


def against_llama_cpp():
    import llama_cpp
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, None)
    print("| model | case | exact: difference by position | greatest | argmax equal | F16 weights and cache |\n"
          "|---|---|---|---|---|---|")
    for path in sorted(glob.glob(os.path.join(HERE, "*.json"))):
        gold = json.load(open(path))
        want = np.fromfile(os.path.join(HERE, gold["logits_file"]), "<f4").reshape(-1, gold["n_vocab"])
        model = os.path.join(HERE, gold["model"])
        told = TOLD.get(gold["model"][:-5], {})
        got = llama_cpp_exact(llama_cpp, model, gold["ids"], gold["n_ctx"], told)
        own = llama_cpp_logits(llama_cpp, model, gold["ids"], gold["n_ctx"], F16, told)
        diff = np.abs(got[gold["positions"]] - want).max(axis=1)
        same = sum(int(a == b) for a, b in zip(got.argmax(axis=1), gold["argmax_all_positions"]))
        print("| %s | %s | %s | %.2g | %d/%d | %.2g |" % (
            gold["model"][:-5], gold["case"], " ".join("%d:%.0e" % p for p in zip(gold["positions"], diff)),
            diff.max(), same, len(gold["ids"]), np.abs(own[gold["positions"]] - want).max()))


def fields_of(reader):
    return {k: f.contents() for k, f in reader.fields.items()
            if not k.startswith(("GGUF.", "general.", "tokenizer."))}


def against_converter(source):
    sys.path.insert(0, os.path.join(source, "gguf-py"))
    sys.path.insert(1, source)
    import gguf
    import safetensors.torch  # before make changes what float32 is
    import make
    import torch
    torch.float32 = torch.float = make.REAL_F32   # the converter means what it says
    torch.set_default_dtype(torch.float32)
    from pathlib import Path
    from conversion import get_model_class
    for name in make.MODELS:
        mine = gguf.GGUFReader(os.path.join(HERE, name + ".gguf"))
        with tempfile.TemporaryDirectory() as folder:
            model = make.build(name).to(torch.float32)
            model.save_pretrained(folder)
            json.dump({"model": {"vocab": {str(i): i for i in range(make.N_VOCAB)}}, "added_tokens": []},
                      open(os.path.join(folder, "tokenizer.json"), "w"))
            kind = get_model_class(type(model).__name__)
            kind.set_vocab = lambda self: None
            out = Path(folder, "out.gguf")
            kind(Path(folder), gguf.LlamaFileType.MOSTLY_F16, out).write()
            theirs = gguf.GGUFReader(out)
            a, b = fields_of(mine), fields_of(theirs)
            a_t, b_t = ({t.name: t for t in r.tensors} for r in (mine, theirs))
            print("%-26s only mine %s, only theirs %s, other value %s, tensors %s, unequal %s" % (
                name, sorted(set(a) - set(b)), sorted(set(b) - set(a)),
                [(k, a[k], b[k]) for k in a if k in b and a[k] != b[k]],
                "same" if set(a_t) == set(b_t) else sorted(set(a_t) ^ set(b_t)),
                [k for k in a_t if k in b_t and (a_t[k].tensor_type != b_t[k].tensor_type
                                                 or not np.array_equal(a_t[k].data, b_t[k].data))]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["llama_cpp"]:
        against_llama_cpp()
    elif sys.argv[1:2] == ["converter"] and len(sys.argv) == 3:
        against_converter(sys.argv[2])
    else:
        sys.exit(__doc__)
