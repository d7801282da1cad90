#!/usr/bin/env python3
"""Makes mass.json: how much of the attention the largest weights hold, in models of this folder, by transformers'
own attention weights (float64, eager) and numpy's sort. Nothing of ours computes anything here but the definition:
over the last 32 queries, each with the keys it sees (causal, the model's own window), the mean share of the
ceil(part * n / 10000) largest weights.

  make_mass.py        in make.py's environment
"""
import json
import os

import make  # first: it makes float32 mean float64
import numpy as np
import torch

PARTS = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000]
N_QUERIES = 32
CASES = {"smollm-9-3": 500, "llama-bias": 400, "qwen3-yarn": 128, "gemma2-swa": 300, "mistral-swa": 100}


def curve(weights):
    """weights (queries, keys) of one head, rows of positions n_keys - queries ...: the means, by part."""
    shares = []
    for row in weights:
        seen = np.sort(row[row > 0])[::-1]  # a weight that is hidden is exactly 0
        shares.append([seen[:-(-part * len(seen) // 10000)].sum() / seen.sum() for part in PARTS])
    return np.mean(shares, axis=0)


def main():
    cases = []
    for name, n in CASES.items():
        rng = np.random.Generator(np.random.PCG64(make.seed_of(name + ".mass")))
        ids = [int(i) for i in rng.integers(3, 256, n)]
        with torch.no_grad():
            out = make.build(name)(input_ids=torch.tensor([ids]), use_cache=False, output_attentions=True)
        layers = []
        for a in out.attentions:
            assert a.dtype == torch.float64
            heads = [curve(h) for h in a[0, :, -N_QUERIES:].numpy()]
            layers.append({"score": float(1 - np.mean(heads, axis=0)[PARTS.index(500)]),
                           "mass": [[round(float(x), 9) for x in h] for h in heads]})
        cases.append({"model": name + ".gguf", "ids": ids, "layers": layers})
        print("%-14s %s" % (name, " ".join("%.4f" % layer["score"] for layer in layers)))
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "mass.json"), "w") as f:
        json.dump({"parts": PARTS, "n_queries": N_QUERIES, "cases": cases}, f)
        f.write("\n")


if __name__ == "__main__":
    main()
