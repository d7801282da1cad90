#!/usr/bin/env python3
"""Tailor beside llama.cpp on the same model files, in turn, in one run.

  bench/peer.py --llama-bench PATH/llama-bench [--tailor build/release/tailor] [-t 2]
                [--depth 0] [--rounds 3] MODEL.gguf [MODEL.gguf ...]

Each round runs both programs on a file, alternating who goes first. Printed are the best of the rounds
for each (a shared machine only ever makes a run slower) and the ratio tailor / llama.cpp: above 1 we
are faster. llama.cpp runs with flash attention on and off, and the better of the two counts.
Standard library only.
"""
import argparse
import json
import os
import subprocess


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit("%s\n%s" % (" ".join(command), done.stderr))
    return done.stdout


def tailor(args, model):
    out = json.loads(run([args.tailor, "bench", "-m", model, "-t", str(args.threads), "--json", "--kv", args.kv,
                          "--prefill", str(args.prompt), "-n", str(args.decode), "--depth", str(args.depth)]))
    row = out["rows"][0]
    return row["prefill_tokens_per_s"], row["decode_tokens_per_s"], row["bandwidth_fraction"]


def llama(args, model):
    best = [0.0, 0.0]
    for fa in ("0", "1"):
        out = json.loads(run([args.llama_bench, "-m", model, "-t", str(args.threads), "-fa", fa, "-o", "json", "-r", "2",
                              "-p", str(args.prompt), "-n", str(args.decode), "-d", str(args.depth)]))
        for row in out:
            i = 0 if row["n_prompt"] > 0 else 1
            best[i] = max(best[i], max(row["samples_ts"]))
    return best


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--llama-bench", required=True)
    p.add_argument("--tailor", default="build/release/tailor")
    p.add_argument("-t", "--threads", type=int, default=2)
    p.add_argument("--prompt", type=int, default=512)
    p.add_argument("--decode", type=int, default=32)
    p.add_argument("--depth", type=int, default=0)
    p.add_argument("--kv", default="full")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("models", nargs="+")
    args = p.parse_args()
    print("%-24s %10s %10s %6s   %9s %9s %6s  %s" % ("model, tokens/s", "prefill", "llama.cpp", "ratio",
                                                     "decode", "llama.cpp", "ratio", "of bandwidth"))
    for model in args.models:
        ours, theirs = [0.0, 0.0, 0.0], [0.0, 0.0]
        for i in range(args.rounds):
            for who in ("tl", "lt")[i % 2]:
                if who == "t":
                    ours = [max(a, b) for a, b in zip(ours, tailor(args, model))]
                else:
                    theirs = [max(a, b) for a, b in zip(theirs, llama(args, model))]
        print("%-24s %10.1f %10.1f %6.2f   %9.2f %9.2f %6.2f  %.0f%%" %
              (os.path.basename(model), ours[0], theirs[0], ours[0] / theirs[0], ours[1], theirs[1],
               ours[1] / theirs[1], 100 * ours[2]), flush=True)


if __name__ == "__main__":
    main()
