"""Token sequences for training: samples of corpus.py packed to a length, with weights and positions."""
import random

import numpy as np

import corpus
import tokenizer as tk


class Maker:
    def __init__(self, tok, pool, seed):
        self.tok, self.pool, self.r = tok, pool, random.Random(seed)
        vocab = tok.get_vocab()
        self.breaks = np.zeros(tok.get_vocab_size(), bool)
        for piece, i in vocab.items():
            if piece in (".", "\u010a", '."', ".\u010a", "!", "?") or i == tk.IM_END:
                self.breaks[i] = True

    def encode(self, sample):
        ids, w = [], []
        for text, weight in sample:
            e = self.tok.encode(text, add_special_tokens=False).ids
            ids += e
            w += [weight] * len(e)
        return ids, w

    def piece(self, room, mix):
        """One sample of at most `room` tokens."""
        r = self.r
        size = max(60, (room - 70) * 3.2) * (1 if r.random() < 0.5 else r.uniform(0.25, 1))
        for _ in range(8):
            ids, w = self.encode(corpus.sample(r, int(size), self.pool, mix))
            if len(ids) <= room:
                return ids, w
            size *= 0.75
        return None

    def drill(self, length):
        """Random tokens said again: what teaches copying first."""
        r = self.r
        n = r.randint(8, max(9, min(length // 2, 200)))
        seg = [r.randrange(len(tk.SPECIALS), tk.VOCAB) for _ in range(n)]
        reps = length // n + 1
        ids = (seg * reps)[:length]
        return ids, ([0] * n + [0.5] * length)[:length]

    def row(self, length, stage):
        r = self.r
        ids, w = ([tk.BOS], [0]) if r.random() < 0.95 else ([], [])
        if r.random() < stage.get("drill", 0):
            d = self.drill(length + 1 - len(ids))
            ids, w = ids + d[0], w + d[1]
        first = True
        mix = corpus.mix(stage.get("mix"), length)
        while len(ids) < length - 24:
            p = self.piece(length + 1 - len(ids), mix[0] if first else mix[1])
            if p is None:
                break
            ids, w, first = ids + p[0], w + p[1], False
            if r.random() < 0.7 and len(ids) < length:
                ids, w = ids + [tk.EOS], w + [0]
                if r.random() < 0.5:
                    ids, w = ids + [tk.BOS], w + [0]
        pad = length + 1 - len(ids)
        return ids + [tk.PAD] * pad, w + [0] * pad

    def positions(self, ids, span):
        """Positions that sometimes jump ahead between sentences, so that far distances are met in short rows."""
        r, n = self.r, len(ids)
        step = np.ones(n, np.int64)
        step[0] = 0
        if span > n and r.random() < 0.6:
            at = np.flatnonzero(self.breaks[ids[:-1]]) + 1
            k = min(len(at), r.choice([1, 2, 3, 5, 8]))
            left = span - n
            for i in r.sample(list(at), k):
                j = int(min(left, left ** r.random()))
                step[i] += j
                left -= j
        return np.cumsum(step)

    def batch(self, length, rows, stage):
        ids, ws, pos = [], [], []
        for _ in range(rows):
            i, w = self.row(length, stage)
            ids.append(i)
            ws.append(w[1:])
            pos.append(self.positions(np.array(i[:-1]), stage.get("span", 0)))
        ids = np.array(ids)
        return ids[:, :-1], ids[:, 1:], np.array(ws, np.float32), np.array(pos)
