#!/usr/bin/env python3
"""Trains the demo model, on the CPU or on CUDA, and can be stopped and started again at any time.

  train.py --out DIR --tokenizer TOKENIZER.json --plan plan.json [--books TEXT ...] [--held-out TEXT ...]

The plan is the curriculum: a list of stages, each {"until": tokens, "lengths": {"256": share ...}, "lr": x, "span": n,
"drill": share, "mix": {...}}. It is read again when it changes, so a run can be led while it goes. DIR receives
checkpoint.pt (weights and optimiser, written aside and renamed) and log.csv. Hidden matrices learn by Muon
(orthogonalised momentum), the embedding and the norms by Adam.
"""
import argparse
import json
import os
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import batches
import corpus
from model import Config, Model


def orthogonal(g):
    """Newton-Schulz steps towards the nearest orthogonal matrix, for a stack (N, R, C)."""
    x = g.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    x = x / (x.float().norm(dim=(1, 2), keepdim=True).to(x.dtype) + 1e-7)
    for _ in range(5):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Optimizer:
    """Keeps float32 masters; the model's own copies follow them in their own type."""

    def __init__(self, model):
        c = model.c
        q, k = c.heads * c.head_dim, c.kv_heads * c.head_dim
        cut = {"qkv": [q, k, k], "gate_up": [c.hidden, c.hidden]}
        self.cut = {n: cut.get(n.rsplit(".", 1)[-1]) for n, _ in model.named_parameters()}
        self.model = model
        self.step_no = 0
        self.master = {n: p.detach().float().clone() for n, p in model.named_parameters()}
        self.m = {n: torch.zeros_like(p) for n, p in self.master.items()}
        self.v = {n: torch.zeros_like(p) for n, p in self.master.items() if not self.muon(n)}

    def muon(self, n):
        return n != "embed" and self.master[n].dim() == 2

    def state(self):
        return {"step": self.step_no, "master": self.master, "m": self.m, "v": self.v}

    def load(self, s):
        self.step_no, self.master, self.m, self.v = s["step"], s["master"], s["m"], s["v"]
        self.publish()

    def publish(self):
        for n, p in self.model.named_parameters():
            p.data.copy_(self.master[n])

    @torch.no_grad()
    def step(self, lr):
        self.step_no += 1
        groups = {}
        for n, p in self.model.named_parameters():
            g = p.grad.float()
            p.grad = None
            if self.muon(n):
                self.m[n].lerp_(g, 0.05)
                u = g.lerp(self.m[n], 0.95)
                for i, part in enumerate(u.split(self.cut[n] or u.shape[0])):
                    groups.setdefault(part.shape, []).append((n, i, part))
            else:
                self.adam(n, g, lr * (0.02 if n == "embed" else 0.001))
        for shape, parts in groups.items():
            o = orthogonal(torch.stack([x for _, _, x in parts])) * max(1, shape[0] / shape[1]) ** 0.5
            for (n, i, _), d in zip(parts, o):
                w = self.master[n].split(self.cut[n] or self.master[n].shape[0])[i]
                w.mul_(1 - lr * 0.02 * 0.02).add_(d, alpha=-lr * 0.02)
        self.publish()

    def adam(self, n, g, lr):
        t = self.step_no
        self.m[n].lerp_(g, 0.1)
        self.v[n].lerp_(g * g, 0.05)
        d = (self.m[n] / (1 - 0.9 ** t)) / ((self.v[n] / (1 - 0.95 ** t)).sqrt() + 1e-8)
        self.master[n].add_(d, alpha=-lr)


def loss_of(model, run, batch, device):
    """Weighted cross-entropy; of lightly weighted tokens a part is drawn, so that the output layer stays cheap."""
    ids, target, w, pos = (torch.as_tensor(x).to(device) for x in batch)
    h = run(ids, pos).flatten(0, 1)
    w = w.flatten()
    light = (w > 0) & (w < 0.3)
    keep = (w >= 0.3) | (light & (torch.rand_like(w) < 0.4))
    at = keep.nonzero()[:, 0]
    ce = F.cross_entropy(model.logits(h[at]), target.flatten()[at], reduction="none")
    return (ce * w[at]).sum() / w[at].sum()


PROBED = ("needles", "facts", "variables", "recall", "values", "several", "chains")


@torch.no_grad()
def probe(model, maker, length, rows, device):
    """Share of answers of which every token is the model's first choice, by kind; held-out documents."""
    out = {}
    for kind in PROBED:
        good = all_ = 0
        for _ in range(rows):
            size = length * 3.2
            while True:
                s = corpus.MAKERS[kind](maker.r, int(size), maker.pool)
                ids, w = maker.encode(s)
                if len(ids) <= length:
                    break
                size *= 0.8
            ids = torch.tensor([ids], device=device)
            pick = model(ids)[0].argmax(-1)
            right = (pick[:-1] == ids[0, 1:]).tolist()
            at = 0
            for text, weight in s:
                n = len(maker.tok.encode(text, add_special_tokens=False).ids)
                if weight == corpus.ANSWER:
                    good += all(right[at - 1:at + n - 1])
                    all_ += 1
                at += n
        out[kind] = good / max(1, all_)
    return out


def stage_at(plan, tokens):
    for s in plan:
        if tokens < s["until"]:
            return s
    return None


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    ap.add_argument("--tokenizer", required=True)
    ap.add_argument("--plan", required=True)
    ap.add_argument("--books", nargs="*", default=[])
    ap.add_argument("--held-out", nargs="*", default=[])
    ap.add_argument("--batch-tokens", type=int, default=8192)
    ap.add_argument("--probe-every", type=int, default=100)
    ap.add_argument("--compile-to", type=int, default=256, help="longer rows run uncompiled on the CPU")
    ap.add_argument("--no-compile", action="store_true")
    a = ap.parse_args()
    torch.set_num_threads(int(os.environ.get("TRAIN_THREADS", 2)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(1)
    model = Model(Config()).to(device)
    for layer in model.layers:
        layer.bfloat16()
    opt = Optimizer(model)
    path, log = os.path.join(a.out, "checkpoint.pt"), os.path.join(a.out, "log.csv")
    tokens = 0
    if os.path.exists(path):
        s = torch.load(path, map_location=device)
        opt.load(s["opt"])
        tokens = s["tokens"]
    opt.publish()
    run = model.hidden if a.no_compile else torch.compile(model.hidden, dynamic=False)
    tok = Tokenizer.from_file(a.tokenizer)
    maker = batches.Maker(tok, corpus.load_pool(a.books), tokens + 19)
    held = batches.Maker(tok, corpus.load_pool(a.held_out), tokens + 90001)
    seen, plan, start, mean = 0, [], time.time(), None
    while True:
        if os.path.exists(a.plan) and os.path.getmtime(a.plan) != seen:
            seen, plan = os.path.getmtime(a.plan), json.load(open(a.plan))
        stage = stage_at(plan, tokens)
        if stage is None:
            break
        length = int(maker.r.choices(list(stage["lengths"]), list(stage["lengths"].values()))[0])
        total = max(a.batch_tokens, length)
        # Compiling costs more than the few long batches of a short run on the CPU; a GPU has time for all.
        forward = model.hidden if length > a.compile_to and device == "cpu" else run
        loss = loss_of(model, forward, maker.batch(length, total // length, stage), device)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step(stage["lr"] * min(1, (opt.step_no + 1) / 50))
        tokens += total
        mean = loss.item() if mean is None else 0.95 * mean + 0.05 * loss.item()
        if opt.step_no % 10 == 0:
            print(f"step {opt.step_no} tokens {tokens} T {length} loss {loss.item():.4f} mean {mean:.4f} s {time.time() - start:.0f}", flush=True)
        if opt.step_no % a.probe_every == 0:
            size = min(2048, max(int(x) for x in stage["lengths"]))
            p = probe(model, held, size, 24, device)
            with open(log, "a") as h:
                h.write(f"{opt.step_no},{tokens},{size},{mean:.4f}," + ",".join(f"{v:.3f}" for v in p.values()) + f",{time.time():.0f}\n")
            print("probe", size, p, flush=True)
        if opt.step_no % 50 == 0:
            torch.save({"opt": opt.state(), "tokens": tokens, "config": vars(model.c)}, path + ".new")
            os.replace(path + ".new", path)
    torch.save({"opt": opt.state(), "tokens": tokens, "config": vars(model.c)}, path)


if __name__ == "__main__":
    main()
