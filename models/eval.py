#!/usr/bin/env python3
"""Scores the demo model on held-out prompts with an exact cache, greedily: eval.py CHECKPOINT TOKENIZER.json

Tasks after RULER's definitions, made here with words and texts that training did not use as filler (--held-out); a
reply is right when it holds every expected string. An answer may be as long as the task needs and no longer.
Prints a table (tasks by lengths in tokens) and, with --json FILE, the numbers.
"""
import argparse
import json
import os
import random

import torch
from model import Config, Model, causal, rotate, rotation
from tokenizers import Tokenizer

import corpus
import tokenizer as tk
from words import distinct, key


class Runner:
    """The model with an exact cache of one sequence."""

    def __init__(self, checkpoint, path):
        s = torch.load(checkpoint, map_location="cpu")
        self.model = Model(Config(**s["config"]))
        self.model.load_state_dict(s["opt"]["master"])
        # As the file in F16 holds them.
        for p in self.model.parameters():
            if p.dim() == 2:
                p.data = p.data.half().float()
        self.tok = Tokenizer.from_file(path)

    @torch.no_grad()
    def feed(self, ids, cache, at):
        """Hidden state after ids; cache is a list of [k, v] per layer, at how many rows it holds."""
        m, c = self.model, self.model.c
        pos = torch.arange(at, at + len(ids))[None]
        cos, sin = rotation(c, pos)
        x = torch.nn.functional.embedding(torch.tensor([ids]), m.embed)
        for i, layer in enumerate(m.layers):
            q, k, v = layer.heads_of(x, cos, sin)
            if at == 0:
                cache.append([k, v])
                a = causal(q, k, v)
            else:
                cache[i] = [torch.cat((o, n), 2) for o, n in zip(cache[i], (k, v))]
                g = q.view(1, c.kv_heads, -1, q.shape[2], c.head_dim)
                w = torch.einsum("bkgqd,bktd->bkgqt", g, cache[i][0]) * c.head_dim ** -0.5
                a = torch.einsum("bkgqt,bktd->bkgqd", w.softmax(-1), cache[i][1]).reshape(q.shape)
            x = layer.finish(x, a)
        return torch.nn.functional.rms_norm(x[:, -1:], (c.width,), m.norm, c.eps)

    def greedy(self, ids, n, stop=(tk.EOS, tk.IM_END)):
        out, cache = [], []
        h = self.feed(ids, cache, 0)
        for i in range(n):
            t = int(self.model.logits(h)[0, -1].argmax())
            if t in stop:
                break
            out.append(t)
            if i + 1 < n:
                h = self.feed([t], cache, len(ids) + i)
        return out

    def encode(self, text, bos=True):
        return ([tk.BOS] if bos else []) + self.tok.encode(text, add_special_tokens=False).ids

    def chat(self, text, n=100):
        return self.tok.decode(self.greedy(self.encode(corpus.user(text)[0]), n))


class Engine:
    """The GGUF itself in an independent engine (llama-cpp-python), its cache in F16; the same calls as Runner."""

    def __init__(self, gguf_path, path, rows):
        from llama_cpp import Llama
        self.llama = Llama(gguf_path, n_ctx=rows, n_batch=1024, n_ubatch=1024, n_threads=2, n_threads_batch=2, verbose=False, flash_attn=True)
        self.tok = Tokenizer.from_file(path)

    encode = Runner.encode

    def greedy(self, ids, n, stop=(tk.EOS, tk.IM_END)):
        out = []
        self.llama.reset()
        for t in self.llama.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
            if t in stop or len(out) == n:
                break
            out.append(t)
        return out


def niah(r, keys, each, ask, kind, lead, chat):
    """RULER's needle family: head, facts, question, strings expected."""
    ks = distinct(r, keys, key)
    vs = distinct(r, keys * each, (lambda q: str(q.randrange(1000000, 9999999))) if kind == "numbers" else key)
    of = {k: vs[i * each:(i + 1) * each] for i, k in enumerate(ks)}
    facts = [f"One of the special magic {kind} for {k} is: {v}." for k in ks for v in of[k]]
    r.shuffle(facts)
    qs = ks[:ask]
    want = [v for k in qs for v in of[k]]
    names = corpus.listing(qs)
    noun = kind if len(want) > 1 else kind[:-1]
    what, verb = ("What are all", "are") if len(want) > 1 else ("What is", "is")
    q = f"{what} the special magic {noun} for {names} mentioned in the provided text?"
    opening = f" The special magic {noun} for {names} mentioned in the provided text {verb}"
    intro = corpus.INTRO[0].format(t=kind, s=noun) + "\n"
    return intro, facts, q, "" if chat else opening, want


def variable_task(r, hops, chat):
    ns = distinct(r, hops + 1, lambda q: "".join(q.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(5)))
    v = str(r.randrange(10000, 99999))
    facts = [f"VAR {ns[0]} = {v}."] + [f"VAR {b} = VAR {a}." for a, b in zip(ns, ns[1:])]
    opening = f" Answer: According to the chain(s) of variable assignment in the text above, {hops + 1} variables are assigned the value {v}, they are:"
    return ("Memorize and track the chain(s) of variable assignment hidden in the following text.\n", facts,
            f"Question: Find all variables that are assigned the value {v} in the text above.", "" if chat else opening, ns)


def fact_task(r, chat):
    fs = []
    while len(fs) < 6:
        f = corpus.fact(r)
        if all(f[0][:12] != g[0][:12] for g in fs):
            fs.append(f)
    s, q, a, v = fs[0]
    facts = [f[0] for f in fs]
    r.shuffle(facts)
    return "", facts, q, "" if chat else "\nAnswer:", [v]


TASKS = {
    "single, number": lambda r, c: niah(r, 1, 1, 1, "numbers", 0, c),
    "single, word": lambda r, c: niah(r, 1, 1, 1, "words", 0, c),
    "multi-key, number": lambda r, c: niah(r, 4, 1, 1, "numbers", 0, c),
    "multi-key, word": lambda r, c: niah(r, 4, 1, 1, "words", 0, c),
    "multi-value": lambda r, c: niah(r, 1, 4, 1, "numbers", 0, c),
    "multi-query": lambda r, c: niah(r, 4, 1, 4, "numbers", 0, c),
    "variables, 2 hops": lambda r, c: variable_task(r, 2, c),
    "fact in a document (chat)": lambda r, c: fact_task(r, True),
}


def prompt(runner, r, task, length, pool, chat):
    """(ids, expected): filled to just under `length` tokens. Variables go into the repeated sentence, as in RULER."""
    intro, facts, q, opening, want = TASKS[task](r, chat)
    size = length * 3.6
    seed = r.random()
    while True:
        rr = random.Random(seed)
        text = corpus.document(rr, pool, size, facts, haystack=("noise" if task.startswith("var") else "book"))
        text = intro + text
        if chat or task.endswith("(chat)"):
            ids = runner.encode(corpus.user(text + "\n\n" + q)[0])
        else:
            ids = runner.encode(text + "\n" + q + opening)
        if len(ids) <= length - 40:
            return ids, want
        size *= min(0.98, (length - 40) / len(ids))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("checkpoint")
    ap.add_argument("tokenizer")
    ap.add_argument("--gguf", help="score this file in llama.cpp instead (quicker)")
    ap.add_argument("--held-out", nargs="+", required=True)
    ap.add_argument("--lengths", nargs="+", type=int, default=[256, 1024, 4096, 8192, 16384])
    ap.add_argument("--tasks", nargs="+", default=list(TASKS))
    ap.add_argument("--per", type=int, default=20)
    ap.add_argument("--chat", action="store_true", help="ask in the chat format instead of RULER's completion format")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--show", action="store_true")
    ap.add_argument("--json")
    a = ap.parse_args()
    torch.set_num_threads(int(os.environ.get("TRAIN_THREADS", 2)))
    runner = Engine(a.gguf, a.tokenizer, max(a.lengths) + 64) if a.gguf else Runner(a.checkpoint, a.tokenizer)
    pool = corpus.load_pool(a.held_out)
    table = {}
    print("task".ljust(28) + "".join(str(n).rjust(8) for n in a.lengths), flush=True)
    for task in a.tasks:
        row = []
        for n in a.lengths:
            good = 0
            for i in range(a.per):
                r = random.Random(f"{a.seed}/{task}/{n}/{i}")
                ids, want = prompt(runner, r, task, n, pool, a.chat)
                said = runner.tok.decode(runner.greedy(ids, 40 + 12 * len(want)))
                ok = all(w in said for w in want)
                good += ok
                if a.show and not ok:
                    print("   ", n, want, "<-", repr(said))
            row.append(good / a.per)
            table.setdefault(task, {})[n] = good / a.per
        print(task.ljust(28) + "".join(f"{100 * x:.0f}%".rjust(8) for x in row), flush=True)
    if a.json:
        with open(a.json, "w") as h:
            json.dump({"per": a.per, "chat": a.chat, "seed": a.seed, "scores": table}, h)


if __name__ == "__main__":
    main()
