"""The demo model in PyTorch: a llama as GGUF engines know it (RMS norm, rotary pairs side by side, grouped queries,
SwiGLU, tied embedding). Weights live in bfloat16 while training; the optimiser keeps the exact ones.
"""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint


@dataclass
class Config:
    vocab: int = 4096
    width: int = 256
    layers: int = 6
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 64
    hidden: int = 512
    theta: float = 10000000.0
    eps: float = 1e-5
    context: int = 16384


def rotation(cfg, pos):
    """cos and sin for positions (B, T): (B, 1, T, head_dim / 2), float32."""
    f = cfg.theta ** (-torch.arange(0, cfg.head_dim, 2, device=pos.device, dtype=torch.float64) / cfg.head_dim)
    a = pos[:, None, :, None].double() * f
    return a.cos().float(), a.sin().float()


def rotate(x, cos, sin):
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


def block_attend(q, k, v, start):
    """Queries (B, KV, G, S, D) that begin at row `start` over keys (B, KV, 1, E, D), causal."""
    b, kv, g, s, d = q.shape
    w = q.reshape(b * kv, g * s, d) @ k.reshape(b * kv, -1, d).transpose(1, 2)
    w = w.view(b * kv, g, s, -1)
    mask = torch.full((s, s), float("-inf"), dtype=w.dtype, device=w.device).triu(1)
    w = torch.cat((w[..., :start], w[..., start:] + mask), -1) if start else w + mask
    p = torch.softmax(w, -1)
    return (p.view(b * kv, g * s, -1) @ v.reshape(b * kv, -1, d)).view(b, kv, g, s, d)


def causal(q, k, v):
    """Attention of q (B, H, T, D) over k, v (B, KV, T, D). On the CPU in blocks of matrix products: that is several
    times faster there than the fused kernel in bfloat16."""
    b, h, t, d = q.shape
    kv = k.shape[1]
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    q = (q * d ** -0.5).view(b, kv, h // kv, t, d)
    step = max(128, t // 8)
    out = []
    for s in range(0, t, step):
        e = min(t, s + step)
        args = (q[:, :, :, s:e], k[:, :, :e], v[:, :, :e], s)
        out.append(checkpoint(block_attend, *args, use_reentrant=False) if t > 2048 and q.requires_grad else block_attend(*args))
    return torch.cat(out, 3).view(b, h, t, d)


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.attn_norm = nn.Parameter(torch.ones(c.width))
        self.ffn_norm = nn.Parameter(torch.ones(c.width))
        self.qkv = nn.Parameter(torch.empty((c.heads + 2 * c.kv_heads) * c.head_dim, c.width))
        self.out = nn.Parameter(torch.empty(c.width, c.heads * c.head_dim))
        self.gate_up = nn.Parameter(torch.empty(2 * c.hidden, c.width))
        self.down = nn.Parameter(torch.empty(c.width, c.hidden))

    def heads_of(self, x, cos, sin):
        c = self.c
        y = F.linear(F.rms_norm(x, (c.width,), self.attn_norm, c.eps), self.qkv)
        y = y.view(*x.shape[:2], -1, c.head_dim).transpose(1, 2)
        q, k, v = y.split((c.heads, c.kv_heads, c.kv_heads), 1)
        return rotate(q, cos, sin), rotate(k, cos, sin), v

    def finish(self, x, a):
        c = self.c
        x = x + F.linear(a.transpose(1, 2).flatten(2), self.out)
        g, u = F.linear(F.rms_norm(x, (c.width,), self.ffn_norm, c.eps), self.gate_up).chunk(2, -1)
        return x + F.linear(F.silu(g) * u, self.down)

    def forward(self, x, cos, sin):
        q, k, v = self.heads_of(x, cos, sin)
        return self.finish(x, causal(q, k, v))


def begin_with_copying(m):
    """Initial weights that already copy a little, because finding that circuit by chance is what costs a small model
    most of its training. The four heads of the first key group of layer 0 look 1 to 4 tokens back (by angles alone:
    channel 0 of every embedding is the same constant) and write what stood there into four parts of the residual. One
    head of layers 1 to 3 seeks the place before which the present token stood (in layer 2 the present two, in layer 3 the
    present three), in the slow pairs, which tell content rather than place, and writes the token found there. Training
    is free to change all of it."""
    c = m.c
    d, q_rows, group = c.head_dim, c.heads * c.head_dim, c.heads // c.kv_heads
    k_rows = c.kv_heads * d
    m.embed[:, 0] = 4.0
    mix = torch.linalg.qr(torch.randn(c.width, c.width))[0]
    mix[:, 0] = 0
    seen = torch.linalg.qr(torch.randn(c.width, d))[0].T.clone()
    seen[:, 0] = 0
    first, fast = m.layers[0], 10
    first.qkv[:group * d] = 0
    first.qkv[q_rows:q_rows + d] = 0
    freq = c.theta ** (-torch.arange(0, d, 2).float() / d)
    for j in range(group):
        a = freq[:fast] * (j + 1)
        first.qkv[j * d:j * d + 2 * fast, 0] = 1.0 * torch.stack((a.cos(), -a.sin()), 1).flatten()
        first.out[:, j * d:(j + 1) * d] = 0.6 * mix[j * d % c.width:j * d % c.width + d].T
    first.qkv[q_rows:q_rows + 2 * fast:2, 0] = 1.0
    first.qkv[q_rows + k_rows:q_rows + k_rows + d] = seen
    slow = d // 2
    for i in (1, 2, 3):
        layer = m.layers[i]
        layer.qkv[:d] = 0
        layer.qkv[q_rows:q_rows + d] = 0
        for j, rows in enumerate(torch.arange(slow, d).chunk(i)):
            part = torch.randperm(d)[:len(rows)]
            ahead = seen[part] if j == 0 else 1.7 * mix[(j - 1) * d:j * d][part]
            layer.qkv[rows] = 2.0 * ahead
            layer.qkv[q_rows + rows] = 2.0 * mix[j * d:(j + 1) * d][part]
        said = torch.linalg.qr(torch.randn(c.width, d))[0].T
        layer.qkv[q_rows + k_rows:q_rows + k_rows + d] = said
        layer.out[:, :d] = 1.5 * said.T


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embed = nn.Parameter(torch.randn(c.vocab, c.width) * 0.7)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = nn.Parameter(torch.full((c.width,), 0.03))
        for n, p in self.named_parameters():
            if p.dim() == 2 and n != "embed":
                nn.init.normal_(p, std=0.5 * p.shape[1] ** -0.5)
                if n.endswith(("out", "down")):
                    p.data.mul_((2 * c.layers) ** -0.5)
        with torch.no_grad():
            begin_with_copying(self)

    def hidden(self, ids, pos):
        cos, sin = rotation(self.c, pos)
        x = F.embedding(ids, self.embed).to(self.layers[0].qkv.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.rms_norm(x, (self.c.width,), self.norm.to(x.dtype), self.c.eps)

    def logits(self, h):
        return F.linear(h, self.embed.to(h.dtype)).float()

    def forward(self, ids, pos=None):
        if pos is None:
            pos = torch.arange(ids.shape[1], device=ids.device)[None].expand_as(ids)
        return self.logits(self.hidden(ids, pos))
