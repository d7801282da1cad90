#!/usr/bin/env python3
"""The GGUF against PyTorch through an independent engine: check.py CHECKPOINT TOKENIZER.json MODEL.gguf

Needs llama-cpp-python. For each prompt the ids of both tokenizers, and the greedy continuations, must be equal.
"""
import argparse
import random

import corpus
import llama_cpp
from eval import Runner
from llama_cpp import Llama

import tokenizer as tk


def prompts():
    r = random.Random(5)
    out = [corpus.user(q)[0] for q in ("Who are you?", "Tell me a story.", "What can you do?")]
    out += ["Once upon a time, there was a small fox named Nora.", "Call me Ishmael. Some years ago - never mind how long",
            "caf\u00e9 \u4f60\u597d 1234567 VAR XKQPD = 12345.\n\n  def f(x):\treturn x+1"]
    for size in (600, 3000, 9000):
        for kind in ("needles", "facts", "variables"):
            s = corpus.MAKERS[kind](r, size, [])
            first = next(i for i, (_, w) in enumerate(s) if w)
            out.append("".join(t for t, _ in s[:first]))
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("checkpoint")
    ap.add_argument("tokenizer")
    ap.add_argument("gguf")
    ap.add_argument("-n", type=int, default=40)
    a = ap.parse_args()
    ours = Runner(a.checkpoint, a.tokenizer)
    theirs = Llama(a.gguf, n_ctx=8192, n_threads=2, verbose=False, logits_all=False, type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32)
    bad = 0
    for p in prompts():
        ids = ours.encode(p)
        got = theirs.tokenize(p.encode(), add_bos=True, special=True)
        mine = ours.greedy(ids, a.n, stop=())
        other = []
        theirs.reset()
        for t in theirs.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
            other.append(t)
            if len(other) == a.n:
                break
        same = mine == other
        bad += ids != got or not same
        print(f"{len(ids):6} tokens  ids {'equal' if ids == got else 'DIFFER'}  continuation {'equal' if same else 'DIFFERS'}  "
              + repr(ours.tok.decode([t for t in mine if t >= len(tk.SPECIALS)])[:60]), flush=True)
    print("all equal" if not bad else f"{bad} differ")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
