#!/usr/bin/env python3
"""Writes core/vq_builtin.inc: the codebooks that come with the program (core/vq.h).

usage: scripts/vq_builtin.py > core/vq_builtin.inc      (needs numpy; half a minute of CPU)

k-means of standard normal numbers, in which every entry's opposite is an entry too, so that half of
them is stored; in units of 1/32, which costs at most 1 % of the error (d2b8). To standard error: the mean
squared error of each on numbers that it has not seen, beside the least possible, 4^-bits per number."""
import sys
import numpy as np

FORMS = [(2, 8), (4, 8), (8, 8), (8, 12), (4, 10), (8, 10), (2, 4)]
UNITS, ROUNDS, PER_ENTRY = 32, 40, 96


def nearest(x, half):
    """Index of the nearest of half and -half, and the sign to flip x by."""
    dots = x @ half.T
    norms = 0.5 * (half * half).sum(1)
    away = norms - np.abs(dots)
    best = away.argmin(1)
    sign = np.where(dots[np.arange(len(x)), best] < 0, -1.0, 1.0)
    return best, sign


def in_pieces(x, half):
    parts = [nearest(x[i:i + 16384], half) for i in range(0, len(x), 16384)]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def train(dim, bits, rng):
    n = 2 ** bits // 2
    x = rng.standard_normal((n * PER_ENTRY, dim)).astype(np.float32)
    half = x[rng.choice(len(x), n, replace=False)]
    for _ in range(ROUNDS):
        best, sign = in_pieces(x, half)
        count = np.bincount(best, minlength=n)
        flipped = x * sign[:, None]
        sums = np.stack([np.bincount(best, flipped[:, j], n) for j in range(dim)], 1)
        empty = count == 0
        half = np.where(empty[:, None], x[rng.integers(0, len(x), n)], sums / np.maximum(count, 1)[:, None])
        half = half.astype(np.float32)
    return half[np.lexsort(half.T[::-1])]


def main():
    print("/* Written by scripts/vq_builtin.py: do not edit. */")
    names = []
    for dim, bits in FORMS:
        rng = np.random.default_rng(1000 * dim + bits)
        units = np.clip(np.round(train(dim, bits, rng) * UNITS), -127, 127).astype(int)
        test = rng.standard_normal((20000, dim)).astype(np.float32)
        half = (units / UNITS).astype(np.float32)
        best, sign = in_pieces(test, half)
        error = ((test - half[best] * sign[:, None]) ** 2).mean()
        print(f"d{dim}b{bits}: {error:.4f} of {4.0 ** (-bits / dim):.4f}", file=sys.stderr)
        name = f"builtin_d{dim}b{bits}"
        names.append((dim, bits, name))
        print(f"static const int8_t {name}[{units.size}] = {{")
        numbers = [str(v) for v in units.flatten()]
        line = "   "
        for number in numbers:
            if len(line) + len(number) + 2 > 100:
                print(line)
                line = "   "
            line += f" {number},"
        print(line + "\n};")
    print("static const int8_t *const builtin[TL_CODEC_COUNT] = {")
    for dim, bits, name in names:
        print(f"    [TL_CODEC_VQ_D{dim}B{bits}] = {name},")
    print("};")


main()
