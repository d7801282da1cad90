#!/usr/bin/env python3
"""Makes mass.json: how much of the attention the largest weights hold, in models of this folder, by transformers'
own attention weights (float64, eager) and numpy's sort. Nothing of ours computes anything here but the definition:
over the last 32 queries, each with the keys it sees (causal, the model's own window), the mean share of the
ceil(part * n / 10000) largest weights.

And what compressing does to a layer's output, in models without windows: from the queries, keys and values that
transformers' attention is given, rounded to float16. All but the newest 64 .. 127 rows are compressed as KIVI does
(keys by channel over 64 rows, values by row over up to 64 channels, minimum and step in float16), one side by the
codec and the other in 8 bits; the error is relative, over all heads of the last 32 queries.

  make_mass.py        in make.py's environment
"""
import json
import os
import sys
from unittest import mock

import make  # first: it makes float32 mean float64
import numpy as np
import torch

PARTS = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000]
N_QUERIES, BLOCK = 32, 64
CODECS = {"q8": 8, "int4": 4, "int2": 2, "int1": 1}
CASES = {"smollm-9-3": 500, "llama-bias": 400, "qwen3-yarn": 128, "gemma2-swa": 300, "mistral-swa": 100}


def curve(weights):
    """weights (queries, keys) of one head, rows of positions n_keys - queries ...: the means, by part."""
    shares = []
    for row in weights:
        seen = np.sort(row[row > 0])[::-1]  # a weight that is hidden is exactly 0
        shares.append([seen[:-(-part * len(seen) // 10000)].sum() / seen.sum() for part in PARTS])
    return np.mean(shares, axis=0)


def squeeze(x, axis, bits):
    """Groups along the axis become codes of so many bits and values again."""
    low, high = x.min(axis, keepdims=True), x.max(axis, keepdims=True)
    half = lambda y: y.astype(np.float16).astype(np.float64)
    low, step = half(low), half((high - low) / (2 ** bits - 1))
    codes = np.clip(np.round((x - low) / np.where(step > 0, step, 1)), 0, 2 ** bits - 1)
    return low + step * codes


def squeezed(x, keys, bits):
    """x (rows, head_dim) of one KV head, the newest rows as they are."""
    n, d = x.shape
    old = (n - BLOCK) // BLOCK * BLOCK
    group = max(g for g in range(1, 65) if d % g == 0)
    shape, axis = ((-1, BLOCK, d), 1) if keys else ((old, -1, group), 2)
    return np.concatenate([squeeze(x[:old].reshape(shape), axis, bits).reshape(old, d), x[old:]])


def attend(q, k, v, scale):
    """The last queries q (heads, queries, d) over k, v (KV heads, rows, d): (heads, queries, d)."""
    n_q, n = q.shape[1], k.shape[1]
    k, v = (np.repeat(x, q.shape[0] // k.shape[0], axis=0) for x in (k, v))
    scores = scale * q @ k.swapaxes(1, 2)
    scores += np.where(np.arange(n) > np.arange(n - n_q, n)[:, None], -np.inf, 0)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    return weights @ v / weights.sum(axis=2, keepdims=True)


def errors_of(q, k, v, scale):
    half = lambda x: x[0].numpy().astype(np.float16).astype(np.float64)
    q, k, v = q[0, :, -N_QUERIES:].numpy(), half(k), half(v)
    exact = attend(q, k, v, scale)
    found = {}
    for side in ("k_error", "v_error"):
        found[side] = {}
        for name, bits in CODECS.items():
            squeezed_k = np.stack([squeezed(x, True, bits if side == "k_error" else 8) for x in k])
            squeezed_v = np.stack([squeezed(x, False, bits if side == "v_error" else 8) for x in v])
            off = attend(q, squeezed_k, squeezed_v, scale) - exact
            found[side][name] = float(np.linalg.norm(off) / np.linalg.norm(exact))
    return found


def watched(arch, seen):
    """transformers' attention, which leaves what it was given in `seen`."""
    module = sys.modules["transformers.models.%s.modeling_%s" % (arch, arch)]
    original = module.eager_attention_forward

    def forward(layer, query, key, value, *rest, **more):
        seen.append((query, key, value, more["scaling"]))
        return original(layer, query, key, value, *rest, **more)
    return mock.patch.object(module, "eager_attention_forward", forward)


def main():
    cases = []
    for name, n in CASES.items():
        rng = np.random.Generator(np.random.PCG64(make.seed_of(name + ".mass")))
        ids = [int(i) for i in rng.integers(3, 256, n)]
        seen = []
        with torch.no_grad(), watched(make.MODELS[name][0], seen):
            out = make.build(name)(input_ids=torch.tensor([ids]), use_cache=False, output_attentions=True)
        layers = []
        assert len(seen) == len(out.attentions)
        for a, given in zip(out.attentions, seen):
            assert a.dtype == torch.float64
            heads = [curve(h) for h in a[0, :, -N_QUERIES:].numpy()]
            layers.append({"score": float(1 - np.mean(heads, axis=0)[PARTS.index(500)]),
                           "mass": [[round(float(x), 9) for x in h] for h in heads]})
            if "sliding_window" not in make.MODELS[name][2]:
                layers[-1].update(errors_of(*given))
        cases.append({"model": name + ".gguf", "ids": ids, "layers": layers})
        print("%-14s %s" % (name, " ".join("%.4f" % layer["score"] for layer in layers)))
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "mass.json"), "w") as f:
        json.dump({"parts": PARTS, "n_queries": N_QUERIES, "cases": cases}, f)
        f.write("\n")


if __name__ == "__main__":
    main()
