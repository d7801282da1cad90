#!/usr/bin/env python3
"""Decode behind a long context: Tailor's presets beside llama.cpp's cache types, in turn, in one run.

  bench/depth.py [--tailor build/release/tailor] [--kv full,tailor] [--depth 16384,32768] [-t 2] [-n 24] [--rounds 2]
                 [--types f16:0,f16:1,q8_0:1,q4_0:1] [--deep PATH] MODEL.gguf [MODEL.gguf ...]

A type is that of llama.cpp's cache and whether flash attention is on. Needs llama-cpp-python (PyPI), whose
library LLAMA_CPP_LIB_PATH may replace by one built for this machine (scripts/peer.sh). A type that a model's
heads do not fit, or a fill that takes longer than ten minutes, is left out with a line.

llama.cpp's cache is filled in pieces of 512 tokens, each a sequence of its own that attends to itself only; then
they are made one sequence. The cache has as many rows as after a true prefill, decode reads them all, and hours of
quadratic prefill are spared; what the rows say does not change the time. Tailor prefills truly, since what
`tailor` fetches depends on the rows; with --deep PATH (cmake --build --preset release --target deep) its cache is
filled by repeating rows, for presets that read all of them. Printed is the median of the steps, the better of the rounds.
"""
import argparse
import json
import os
import subprocess
import sys
import time

PIECE = 512


def llama_decode(L, context, batch, tokens, at, sequence):
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.logits[i] = token, at + i, i == len(tokens) - 1
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
    if L.llama_decode(context, batch) != 0:
        raise SystemExit("llama_decode failed")
    L.llama_synchronize(context)


def llama_context(L, args, model, type_name, flash):
    params = L.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = args.at + PIECE, PIECE, PIECE
    params.n_threads = params.n_threads_batch = args.threads
    params.type_k = params.type_v = {"f16": 1, "q8_0": 8, "q4_0": 2}[type_name]
    params.flash_attn_type = int(flash)
    params.n_seq_max, params.kv_unified = args.at // PIECE + 1, True
    context = L.llama_init_from_model(model, params)
    if not context:
        raise SystemExit("no context: the heads do not fit this type")
    return context


def llama_one(args):
    """Child process: prints the seconds of every step behind args.at tokens."""
    import llama_cpp as L
    L.llama_backend_init()
    silent = L.llama_log_callback(lambda *_: None)
    L.llama_log_set(silent, None)
    type_name, flash = args.child.split(":")
    model = L.llama_model_load_from_file(args.models[0].encode(), L.llama_model_default_params())
    n_vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
    context, batch = llama_context(L, args, model, type_name, flash), L.llama_batch_init(PIECE, 0, 1)
    memory, token, seconds = L.llama_get_memory(context), 1, []
    for at in range(0, args.at, PIECE):
        piece = []
        for _ in range(PIECE):
            token = (token * 48271) % 2147483647
            piece.append(5 + token % (n_vocab - 10))
        llama_decode(L, context, batch, piece, at, 1 + at // PIECE)
        L.llama_memory_seq_cp(memory, 1 + at // PIECE, 0, -1, -1)
    L.llama_memory_seq_keep(memory, 0)
    if L.llama_memory_seq_pos_min(memory, 0) != 0 or L.llama_memory_seq_pos_max(memory, 0) != args.at - 1:
        raise SystemExit("the cache is not one sequence of all rows")
    for i in range(args.steps + 1):  # the first one is not counted
        start = time.perf_counter()
        llama_decode(L, context, batch, [7 + i % 16], args.at + i, 0)
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds[1:]))


def llama(args, model, depth, kind):
    command = [sys.executable, __file__, "--child", kind, "--at", str(depth), "-t", str(args.threads),
               "-n", str(args.steps), model]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        return None, "took too long"
    if done.returncode != 0:
        return None, (done.stderr.strip().splitlines() or ["died"])[-1]
    seconds = sorted(json.loads(done.stdout))
    return 1 / seconds[len(seconds) // 2], ""


def deep(args, model, depth, preset):
    done = subprocess.run([args.deep, os.path.abspath(model), "cpu", preset, str(depth), str(args.steps), "0", "repeat"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        return None, (done.stderr.strip().splitlines() or ["died"])[-1]
    return float(done.stdout.split(": ")[1].split()[0]), ""


def tailor(args, model, depth, preset):
    if args.deep:
        return deep(args, model, depth, preset)
    done = subprocess.run([args.tailor, "bench", "-m", model, "-t", str(args.threads), "--kv", preset, "--json",
                           "--depth", str(depth), "--prefill", "0", "-n", str(args.steps)],
                          capture_output=True, text=True)
    if done.returncode != 0:
        return None, (done.stderr.strip().splitlines() or ["died"])[-1]
    return 1000 / json.loads(done.stdout)["rows"][0]["p50_ms"], ""


def measure(args, model, depth):
    """{name: tokens per second, the better of the rounds} of both programs, in turn."""
    best = {}
    for _ in range(args.rounds):
        for run, names in ((llama, args.types), (tailor, args.kv)):
            for name in names:
                rate, why = run(args, model, depth, name)
                label = ("llama.cpp " if run is llama else "tailor ") + name
                if rate is None:
                    print("%s at %d: %s left out: %s" % (model, depth, label, why), file=sys.stderr)
                else:
                    best[label] = max(best.get(label, 0), rate)
    return best


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+")
    p.add_argument("--tailor", default="build/release/tailor")
    p.add_argument("--deep", default="", metavar="PATH")
    p.add_argument("--kv", type=lambda s: s.split(","), default=["full", "tailor"])
    p.add_argument("--types", type=lambda s: s.split(","), default=["f16:0", "f16:1", "q8_0:1", "q4_0:1"])
    p.add_argument("--depth", type=lambda s: [int(n) // PIECE * PIECE for n in s.split(",")], default=[16384, 32768])
    p.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    p.add_argument("-n", "--steps", type=int, default=24)
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--child", help=argparse.SUPPRESS)
    p.add_argument("--at", type=int, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.child:
        return llama_one(args)
    print("| model | depth | best of llama.cpp | %s |\n|---|--:|--:|%s" %
          (" | ".join("`%s`" % kv for kv in args.kv), "--:|" * len(args.kv)))
    for model in args.models:
        for depth in args.depth:
            best = measure(args, model, depth)
            peers = {k: v for k, v in best.items() if k.startswith("llama.cpp")}
            peer = max(peers, key=peers.get) if peers else None
            ours = ["%.1f%s" % (best["tailor " + kv], " (%.1f x)" % (best["tailor " + kv] / peers[peer]) if peer else "")
                    if "tailor " + kv in best else "-" for kv in args.kv]
            print("| %s | %d | %s | %s |" % (os.path.basename(model), depth,
                  "%.1f (%s)" % (peers[peer], peer[10:]) if peer else "-", " | ".join(ours)), flush=True)
            print("  all:", ", ".join("%s %.1f" % kv for kv in sorted(best.items())), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
