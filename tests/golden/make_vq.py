#!/usr/bin/env python3
"""Writes tests/golden/vq.json: vector-quantised blocks and scores as numpy has them (core/vq.h).

usage: tests/golden/make_vq.py > tests/golden/vq.json      (needs numpy)

Nothing of the program is used: Hadamard matrices are built from their definition, nearest entries are
found in double precision over all entries. Rows, codebooks, smoothing factors and queries come from one
linear congruential generator that the test has too, as numbers that binary16 holds exactly. A code is -1
where two entries are so close that rounding may choose either."""
import json
import sys
import numpy as np

BLOCK = 64
CASES = [("vq-d2b8", 2, 8, 64), ("vq-d4b8", 4, 8, 128), ("vq-d8b8", 8, 8, 80), ("vq-d8b12", 8, 12, 64),
         ("vq-d4b10", 4, 10, 48), ("vq-d8b10", 8, 10, 256), ("vq-d2b4", 2, 4, 24)]


class Numbers:
    def __init__(self, seed):
        self.state = seed

    def draw(self, n):
        """n multiples of 1/1024 in [-2, 2)."""
        out = np.empty(n)
        for i in range(n):
            self.state = (self.state * 1664525 + 1013904223) % 2 ** 32
            out[i] = ((self.state >> 8) % 4096 - 2048) / 1024
        return out


def hadamard(n):
    h = np.ones((1, 1))
    while len(h) < n:
        h = np.block([[h, h], [h, -h]]) / np.sqrt(2)
    return h


def rotation(d):
    out = np.zeros((d, d))
    at = 0
    while at < d:
        n = 1
        while 2 * n <= d - at:
            n *= 2
        out[at:at + n, at:at + n] = hadamard(n)
        at += n
    return out


def case(name, dim, bits, d, seed):
    numbers = Numbers(seed)
    book = numbers.draw(2 ** bits * dim).reshape(-1, dim)
    smooth = 0.25 + np.abs(numbers.draw(d))
    rows = numbers.draw(BLOCK * d).reshape(BLOCK, d)
    rows[:, 3] *= 16  # an outlier channel
    query = numbers.draw(d)
    turned = (rows / smooth) @ rotation(d)
    scale = float(np.float16(np.sqrt((turned ** 2).mean())))
    vectors = (turned / scale).reshape(-1, dim)
    away = ((vectors[:, None, :] - book[None]) ** 2).sum(2) if bits < 10 else \
        np.stack([((v - book) ** 2).sum(1) for v in vectors])
    best = away.argmin(1)
    two = np.partition(away, 1, axis=1)[:, :2]
    unsure = two[:, 1] - two[:, 0] < 1e-4
    decoded = (scale * book[best]).reshape(BLOCK, d) @ rotation(d) * smooth
    codes = np.where(unsure, -1, best).reshape(BLOCK, d // dim)
    scores = decoded @ query
    scores[unsure.reshape(BLOCK, -1).any(1)] = 0
    return {"codec": name, "head_dim": d, "seed": seed, "scale": scale,
            "codes": codes.T.tolist(), "scores": [round(float(s), 5) for s in scores]}


json.dump([case(*c, 7 + i) for i, c in enumerate(CASES)], sys.stdout, separators=(",", ":"))
print()
