#!/usr/bin/env python3
"""The quality table of the README: what presets keep on the device, and what that costs.

  bench/quality.py [--tailor build/release/tailor] [--model models/demo.gguf] [--text BOOK.txt]
                   [--ctx 8192] [-n 512] [--task niah_single1,kv] [--task-ctx 4096] [--samples 10]
                   [--copy RETRIEVAL.gguf TASKS.jsonl CTX] [--kv full,kivi2,tailor,tailor1,tailor2,quest]

Prints the commands that it runs, then a Markdown table: bytes of the cache on the device at --ctx (as
`tailor run --json` counts them) and their share of the exact cache; the divergence of the next token's
distribution from the exact cache's; the mean score of each task; with --copy how many tasks the constructed
retrieval model answers. Standard library only.
"""
import argparse
import json
import subprocess
import sys


def run(args, *words):
    command = [args.tailor] + [str(w) for w in words] + ["-t", str(args.threads), "--json"]
    print("    " + " ".join(command), flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def results(args, *words):
    return {(r["task"], r["kv"]): r for r in run(args, "eval", *words)["results"]}


def device_bytes(args, kv):
    out = run(args, "run", "-m", args.model, "-p", "Once", "-n", 1, "--temp", 0, "-c", args.ctx, "--kv", kv)
    return out["memory"]["kv_device_bytes"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tailor", default="build/release/tailor")
    p.add_argument("-t", "--threads", type=int, default=2)
    p.add_argument("--model", default="models/demo.gguf")
    p.add_argument("--text")
    p.add_argument("--ctx", type=int, default=8192)
    p.add_argument("-n", type=int, default=512)
    p.add_argument("--task", default="niah_single1,kv")
    p.add_argument("--task-ctx", type=int, default=4096)
    p.add_argument("--samples", type=int, default=10)
    p.add_argument("--copy", nargs=3, metavar=("MODEL", "TASKS", "CTX"))
    p.add_argument("--kv", default="full,kivi2,tailor,tailor1,tailor2,quest")
    args = p.parse_args()
    kvs, tasks = args.kv.split(","), args.task.split(",")
    size = {kv: device_bytes(args, kv) for kv in kvs}
    exact = size["full"] if "full" in size else device_bytes(args, "full")
    text = ["--text", args.text] if args.text else []
    kld = results(args, "-m", args.model, "--task", "kld", "--ctx", args.ctx, "-n", args.n, "--kv", args.kv, *text)
    score = results(args, "-m", args.model, "--task", args.task, "--ctx", args.task_ctx, "--samples", args.samples,
                    "--kv", args.kv, *text)
    copy = {}
    if args.copy:
        for r in results(args, "-m", args.copy[0], "--tasks-file", args.copy[1], "--task", "copy_one,copy_many",
                         "--ctx", args.copy[2], "--kv", args.kv).values():
            done, n = copy.get(r["kv"], (0, 0))
            copy[r["kv"]] = done + round(r["score"] * r["n"]), n + r["n"]
    heads = ["`--kv`", "device, MiB", "of `full`", "KL mean", "KL 99 %", "same token", *(f"`{t}`" for t in tasks)]
    print("\n| " + " | ".join(heads + ["copies"] * bool(args.copy)) + " |")
    print("|---|" + "--:|" * (len(heads) - 1 + bool(args.copy)))
    for kv in kvs:
        k = kld["kld", kv]
        row = [f"`{kv}`", f"{size[kv] / 2**20:.1f}", f"1/{exact / size[kv]:.1f}", f"{k['kld_mean']:.4f}",
               f"{k['kld_p99']:.3f}", f"{100 * k['top1']:.1f} %", *(f"{100 * score[t, kv]['score']:.0f} %" for t in tasks)]
        if args.copy:
            row.append("%d of %d" % copy[kv])
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
