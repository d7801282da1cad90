#!/usr/bin/env python3
"""Decode of a model of Llama-3.1-8B's shape by PyTorch and transformers, random weights in half precision, with a
full cache on the card and with one that is offloaded to host memory: ms a token, beside what bench/card.c prints.

  bench/torch_decode.py [--tiny] [--depths 4096,32768,131072] [--steps 16]

The cache is filled with random rows, layer by layer, since a true prefill of that length takes minutes; what rows
say does not change the time of exact attention. --tiny: a rehearsal on the CPU.
"""
import argparse
import gc
import statistics
import sys
import time

import torch
import transformers


def new_cache(config, offloaded):
    if not offloaded:
        return transformers.DynamicCache()
    if hasattr(transformers, "OffloadedCache"):
        return transformers.OffloadedCache()
    return transformers.DynamicCache(config=config, offloading=True)


def decode(model, config, depth, steps, offloaded, device, dtype):
    cache = new_cache(config, offloaded)
    heads, dim = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    for layer in range(config.num_hidden_layers):
        rows = torch.randn(1, heads, depth, dim, device=device, dtype=dtype)
        cache.update(rows, rows.clone(), layer)
    token, times = torch.tensor([[1]], device=device), []
    for i in range(steps + 3):
        if device == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        place = torch.tensor([[depth + i]], device=device)
        with torch.no_grad():
            out = model(input_ids=token, past_key_values=cache, use_cache=True, position_ids=place)
        token = out.logits[:, -1:].argmax(-1)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) * 1e3)
    return sorted(times[3:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--depths", default="4096,32768,131072")
    parser.add_argument("--steps", type=int, default=16)
    args = parser.parse_args()
    device, dtype = ("cpu", torch.float32) if args.tiny else ("cuda", torch.float16)
    sizes = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, vocab_size=256) if args.tiny else dict(
                     hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
                     num_key_value_heads=8, vocab_size=128256)
    config = transformers.LlamaConfig(max_position_embeddings=1 << 20, **sizes)
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = transformers.LlamaForCausalLM(config).eval()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {device}", flush=True)
    n_failed = 0
    for depth in [64] if args.tiny else [int(d) for d in args.depths.split(",")]:
        for offloaded in (False,) if args.tiny else (False, True):  # offloading needs a card
            name = "offloaded" if offloaded else "full"
            try:
                ms = decode(model, config, depth, args.steps, offloaded, device, dtype)
                print(f"torch {name:9} depth {depth}: p50 {statistics.median(ms):.3f} ms, "
                      f"p95 {ms[len(ms) * 95 // 100]:.3f}, least {ms[0]:.3f}", flush=True)
            except Exception as error:  # the next depth or cache is still worth its time
                print(f"torch {name:9} depth {depth}: {type(error).__name__}: {str(error)[:200]}", flush=True)
                n_failed += 1
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
    return min(n_failed, 1)


if __name__ == "__main__":
    sys.exit(main())
