#!/usr/bin/env python3
"""Writes a checkpoint of train.py as GGUF: export.py CHECKPOINT TOKENIZER.json OUT.gguf [--context N]"""
import argparse
import json

import gguf
import numpy as np
import torch
from model import Config

import tokenizer as tk

TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def add_vocabulary(w, path):
    spec = json.load(open(path, encoding="utf-8"))["model"]
    pieces = sorted(spec["vocab"], key=spec["vocab"].get)
    control = len(tk.SPECIALS)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("llama-bpe")
    w.add_token_list(pieces)
    w.add_token_types([gguf.TokenType.CONTROL if i < control else gguf.TokenType.NORMAL for i in range(len(pieces))])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in spec["merges"]])
    w.add_bos_token_id(tk.BOS)
    w.add_eos_token_id(tk.EOS)
    w.add_eot_token_id(tk.IM_END)
    w.add_pad_token_id(tk.PAD)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    w.add_chat_template(TEMPLATE)


def add_shape(w, c, context):
    w.add_name("Tailor demo")
    w.add_description("A small long-context model that ships with Tailor; see models/README.md")
    w.add_license("MIT")
    w.add_vocab_size(c.vocab)
    w.add_context_length(context)
    w.add_embedding_length(c.width)
    w.add_block_count(c.layers)
    w.add_feed_forward_length(c.hidden)
    w.add_head_count(c.heads)
    w.add_head_count_kv(c.kv_heads)
    w.add_key_length(c.head_dim)
    w.add_value_length(c.head_dim)
    w.add_rope_dimension_count(c.head_dim)
    w.add_rope_freq_base(c.theta)
    w.add_layer_norm_rms_eps(c.eps)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def tensors(state, c):
    """(name, float32 array) in the order of a reading engine."""
    q, k = c.heads * c.head_dim, c.kv_heads * c.head_dim
    yield "token_embd.weight", state["embed"]
    for i in range(c.layers):
        g = {n: state[f"layers.{i}.{n}"] for n in ("attn_norm", "ffn_norm", "qkv", "out", "gate_up", "down")}
        b = f"blk.{i}."
        yield b + "attn_norm.weight", g["attn_norm"]
        for n, t in zip(("q", "k", "v"), g["qkv"].split([q, k, k])):
            yield b + f"attn_{n}.weight", t
        yield b + "attn_output.weight", g["out"]
        yield b + "ffn_norm.weight", g["ffn_norm"]
        for n, t in zip(("gate", "up"), g["gate_up"].split([c.hidden, c.hidden])):
            yield b + f"ffn_{n}.weight", t
        yield b + "ffn_down.weight", g["down"]
    yield "output_norm.weight", state["norm"]


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("checkpoint")
    ap.add_argument("tokenizer")
    ap.add_argument("out")
    ap.add_argument("--context", type=int, default=16384)
    a = ap.parse_args()
    s = torch.load(a.checkpoint, map_location="cpu")
    c = Config(**s["config"])
    w = gguf.GGUFWriter(a.out, "llama")
    add_shape(w, c, a.context)
    add_vocabulary(w, a.tokenizer)
    for name, t in tensors(s["opt"]["master"], c):
        w.add_tensor(name, t.numpy().astype(np.float32 if t.dim() == 1 else np.float16))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main()
