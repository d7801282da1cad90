#!/usr/bin/env python3
"""Makes the golden models of this folder and what they must answer.

Every model is a tiny one of Hugging Face transformers with seeded random weights, written as GGUF with the
tensor names, row orders and metadata that llama.cpp's converter gives such a model, and run in float64 by
transformers' own code: that code, not ours, says what the logits are. README.md tells the rest.

  make.py [NAME ...]      writes NAME.gguf, NAME.CASE.json and NAME.CASE.logits.f32 beside this file
"""
import hashlib
import json
import math
import os
import sys

import gguf
import numpy as np
import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
N_VOCAB = 264
N_GREEDY = 16

# transformers casts to float32 inside norms, softmax and rotary angles whatever the model's type is. Here
# float32 means float64 from now on, so that the reference has no rounding worth naming.
torch.set_default_dtype(torch.float64)
REAL_F32 = torch.float32
torch.float32 = torch.float = torch.float64
torch.Tensor.float = torch.Tensor.double


def rope(theta=10000.0, kind="default", **more):
    return {"rope_type": kind, "rope_theta": theta, **more}


def shape(width, ff, layers, heads, kv_heads, head, **more):
    return dict(vocab_size=N_VOCAB, hidden_size=width, intermediate_size=ff, num_hidden_layers=layers,
                num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head, **more)


def phi3_shape(width, ff, layers, heads, kv_heads, **more):
    s = shape(width, ff, layers, heads, kv_heads, None, **more)
    del s["head_dim"]
    return dict(s, pad_token_id=None, bos_token_id=1, eos_token_id=2)


def longrope(n_pairs, short_top, long_top, original, **more):
    """Divisors that rise from 1, as published Phi-3 files have them."""
    def ramp(top):
        return [round(top ** (i / (n_pairs - 1)), 4) for i in range(n_pairs)]
    return rope(kind="longrope", short_factor=ramp(short_top), long_factor=ramp(long_top),
                original_max_position_embeddings=original, **more)


LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
YARN = dict(factor=4.0, original_max_position_embeddings=32)
GEMMA3_ROPE = {"full_attention": rope(1e6, "linear", factor=8.0), "sliding_attention": rope(1e4)}
GEMMA = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, tie_word_embeddings=True)

# name: (architecture, vocabulary, configuration, {case: (tokens, context of the session)})
MODELS = {
    "llama-bias": ("llama", "spm", shape(32, 48, 2, 2, 2, 16, attention_bias=True, mlp_bias=True,
                   rope_parameters=rope()), {"ids": (40, 64)}),
    "llama-hd64-linear": ("llama", "spm", shape(32, 48, 2, 2, 1, 64, rope_parameters=rope(
                          kind="linear", factor=4.0)), {"ids": (40, 64)}),
    "llama-hd80-llama3": ("llama", "bpe", shape(32, 32, 2, 2, 1, 80, tie_word_embeddings=True,
                          rope_parameters=rope(5e5, "llama3", **LLAMA3)), {"ids": (90, 128)}),
    "llama-hd96-yarn": ("llama", "spm", shape(24, 32, 2, 2, 1, 96, rope_parameters=rope(
                        kind="yarn", **YARN)), {"ids": (80, 128)}),
    "llama-hd128-yarn-params": ("llama", "spm", shape(24, 32, 1, 2, 1, 128, rope_parameters=rope(
                                2e4, "yarn", attention_factor=1.5, beta_fast=8.0, beta_slow=2.0, **YARN)),
                                {"ids": (80, 128)}),
    "smollm-9-3": ("llama", "bpe", shape(72, 48, 1, 9, 3, 8, tie_word_embeddings=True,
                   rope_parameters=rope(1e5)), {"ids": (40, 64)}),
    "mistral-swa": ("mistral", "spm", shape(40, 48, 2, 4, 2, 16, sliding_window=10,
                    rope_parameters=rope()), {"ids": (48, 64)}),
    "qwen2-14-2": ("qwen2", "bpe", shape(112, 32, 1, 14, 2, 8, tie_word_embeddings=True,
                   rope_parameters=rope(1e6)), {"ids": (40, 64)}),
    "qwen2-yarn": ("qwen2", "bpe", shape(48, 48, 2, 3, 1, 16, rope_parameters=rope(
                   1e6, "yarn", **YARN)), {"ids": (80, 128)}),
    "qwen3-hd128": ("qwen3", "bpe", shape(32, 48, 1, 3, 1, 128, tie_word_embeddings=True,
                    rope_parameters=rope(1e6)), {"ids": (40, 64)}),
    "qwen3-yarn": ("qwen3", "bpe", shape(40, 48, 2, 4, 2, 16, rope_parameters=rope(
                   1e6, "yarn", **YARN)), {"ids": (80, 128)}),
    "phi3-swa": ("phi3", "spm", phi3_shape(48, 32, 2, 3, 3, sliding_window=11, rope_parameters=rope()),
                 {"ids": (48, 64)}),
    "phi3-longrope": ("phi3", "spm", phi3_shape(48, 40, 2, 3, 1, max_position_embeddings=2048,
                      original_max_position_embeddings=256, sliding_window=2047,
                      rope_parameters=longrope(8, 1.4, 30.0, 256)), {"short": (60, 256), "long": (300, 512)}),
    "phi4-partial": ("phi3", "bpe", phi3_shape(64, 48, 1, 2, 1, tie_word_embeddings=True,
                     max_position_embeddings=2048, original_max_position_embeddings=256,
                     rope_parameters=longrope(12, 1.0, 20.0, 256, partial_rotary_factor=0.75)),
                     {"short": (44, 256), "long": (280, 512)}),
    "gemma-hd256": ("gemma", "spm", shape(24, 32, 1, 2, 1, 256, rope_parameters=rope(), **GEMMA),
                    {"ids": (40, 64)}),
    "gemma2-swa": ("gemma2", "spm", shape(40, 48, 4, 4, 2, 16, sliding_window=10, query_pre_attn_scalar=16,
                   attn_logit_softcapping=5.0, final_logit_softcapping=3.0, rope_parameters=rope(), **GEMMA),
                   {"ids": (48, 64)}),
    "gemma2-27b-rule": ("gemma2", "spm", shape(16, 8, 46, 4, 1, 8, sliding_window=24,
                        query_pre_attn_scalar=4, attn_logit_softcapping=50.0, final_logit_softcapping=30.0,
                        rope_parameters=rope(), **GEMMA), {"ids": (40, 64)}),
    "gemma3-linear8": ("gemma3", "spm", shape(24, 32, 7, 2, 1, 32, sliding_window=9, query_pre_attn_scalar=32,
                       rope_parameters=GEMMA3_ROPE, **GEMMA), {"ids": (64, 96)}),
    "gemma3-27b-rule": ("gemma3", "spm", shape(16, 8, 62, 4, 1, 8, sliding_window=24, query_pre_attn_scalar=4,
                        rope_parameters=GEMMA3_ROPE, **GEMMA), {"ids": (40, 64)}),
}

HF = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    "phi3": (transformers.Phi3Config, transformers.Phi3ForCausalLM),
    "gemma": (transformers.GemmaConfig, transformers.GemmaForCausalLM),
    "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
    "gemma3": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
}


def seed_of(name):
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")


def random_weights(arch, model, rng):
    """Weights N(0, 1/fan_in), queries and keys doubled so that attention is peaked and one wrong key
    shows; norms around one. A deep model would amplify every rounding, so it has small norms at the end of its
    branches, and plain queries and keys. Matrices are rounded to float16, the rest to float32: what the file stores."""
    tied = model.config.tie_word_embeddings
    deep = model.config.num_hidden_layers > 10
    for name, p in model.named_parameters():
        n_out, fan_in = (list(p.shape) + [0])[:2]
        if name.endswith("norm.weight"):
            w = rng.uniform(0.5, 1.5, n_out)
            if name.endswith(("q_norm.weight", "k_norm.weight")):
                w *= 1.2 if deep else 1.6
            elif deep and ".post_" in name:
                w *= 0.15
            w = w.astype(np.float32) - (1 if arch.startswith("gemma") else 0)
        elif name.endswith("bias"):
            w = (rng.standard_normal(n_out) * 0.5).astype(np.float32)
        else:
            gain = 1 / math.sqrt(fan_in)
            if "embed_tokens" in name:
                gain = 1 / math.sqrt(fan_in) if arch.startswith("gemma") else 2 / math.sqrt(fan_in) if tied else 1
            elif "lm_head" in name:
                gain *= 2
            w = rng.standard_normal(tuple(p.shape)) * gain
            if name.endswith(("q_proj.weight", "k_proj.weight")) and not deep:
                w *= 2
            if name.endswith("qkv_proj.weight"):
                n_qk = n_out - model.config.num_key_value_heads * head_of(model.config)
                w[:n_qk] *= 2
            w = w.astype(np.float16)
        with torch.no_grad():
            p.copy_(torch.from_numpy(w.astype(np.float64)))


def head_of(config):
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def adjacent(w, n_heads):
    """Rows of each head from (first halves, second halves) to the adjacent pairs that GGUF llama rotates."""
    return w.reshape(n_heads, 2, w.shape[0] // n_heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def add_tensors(writer, arch, gguf_arch, model):
    config = model.config
    names = gguf.get_tensor_name_map(gguf_arch, config.num_hidden_layers)
    for name, p in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        w = p.numpy()
        if arch in ("llama", "mistral"):
            if ".q_proj." in name:
                w = adjacent(w, config.num_attention_heads)
            if ".k_proj." in name:
                w = adjacent(w, config.num_key_value_heads)
        if arch.startswith("gemma") and name.endswith("norm.weight"):
            w = w + 1
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(new, w.astype(np.float32 if w.ndim == 1 else np.float16))


def add_rope(writer, arch, config):
    params = config.rope_parameters
    if arch == "gemma3":
        writer.add_rope_freq_base(params["full_attention"]["rope_theta"])
        writer.add_rope_freq_base_swa(params["sliding_attention"]["rope_theta"])
        params = params["full_attention"]
    elif arch not in ("gemma", "gemma2"):
        writer.add_rope_freq_base(params["rope_theta"])
    kind = params["rope_type"]
    head = head_of(config)
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(params["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(params["factor"])
        writer.add_rope_scaling_orig_ctx_len(params["original_max_position_embeddings"])
        for key, add in (("attention_factor", writer.add_rope_scaling_yarn_attn_factor),
                         ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
                         ("beta_slow", writer.add_rope_scaling_yarn_beta_slow)):
            if params.get(key) is not None:
                add(params[key])
    elif kind == "llama3":
        inv = params["rope_theta"] ** -(np.arange(0, head, 2) / head)
        wave = params["original_max_position_embeddings"] * inv / (2 * np.pi)
        low, high = params["low_freq_factor"], params["high_freq_factor"]
        smooth = np.clip((wave - low) / (high - low), 0, 1)
        writer.add_tensor("rope_freqs.weight", (1 / ((1 - smooth) / params["factor"] + smooth)).astype(np.float32))
    elif kind == "longrope":
        original = params["original_max_position_embeddings"]
        scale = config.max_position_embeddings / original
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
        writer.add_tensor("rope_factors_long.weight", np.array(params["long_factor"], np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array(params["short_factor"], np.float32))


def add_shape(writer, arch, config):
    """The keys that llama.cpp's converter writes for this architecture."""
    head = head_of(config)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    if arch == "phi3":
        params = config.rope_parameters
        writer.add_rope_dimension_count(int(params.get("partial_rotary_factor", 1.0) * head))
        writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
        writer.add_sliding_window(config.sliding_window or 0)
    else:
        if arch != "qwen2":
            writer.add_key_length(head)
            writer.add_value_length(head)
        if arch in ("llama", "mistral"):
            writer.add_vocab_size(config.vocab_size)
            writer.add_rope_dimension_count(head)
    if arch in ("mistral", "gemma2", "gemma3"):
        writer.add_sliding_window(config.sliding_window)
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def spm_vocab(writer):
    T = gguf.TokenType
    pieces = ["\u2581", "e", "t", "\u2581t"]
    tokens = [b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % i for i in range(256)] + [p.encode() for p in pieces]
    tokens.append(b"<|endoftext|>")  # llama.cpp refuses a phi3 vocabulary without it
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(pieces))] + [-1000.0])
    writer.add_token_types([T.UNKNOWN, T.CONTROL, T.CONTROL] + [T.BYTE] * 256 + [T.NORMAL] * len(pieces) + [T.CONTROL])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def bpe_vocab(writer):
    """The 256 bytes in GPT-2's alphabet, four merges, four control tokens."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    other = [b for b in range(256) if b not in plain]
    letter = {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(other)}
    merges = [(letter[32], "t"), ("h", "e"), (letter[32] + "t", "he"), ("i", "n")]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([letter[b] for b in range(256)] + [a + b for a, b in merges] + special)
    writer.add_token_types([gguf.TokenType.NORMAL] * 260 + [gguf.TokenType.CONTROL] * 4)
    writer.add_token_merges([a + " " + b for a, b in merges])
    writer.add_bos_token_id(260)
    writer.add_eos_token_id(262)
    writer.add_add_bos_token(False)


def build(name):
    """The model of this name, its weights as the file stores them."""
    arch, _, options, _ = MODELS[name]
    config_class, model_class = HF[arch]
    options = dict(options)
    options.setdefault("max_position_embeddings", 512)
    options.setdefault("tie_word_embeddings", False)
    config = config_class(**options, attn_implementation="eager", use_cache=False)
    model = model_class(config).double().eval()
    random_weights(arch, model, np.random.Generator(np.random.PCG64(seed_of(name))))
    return model


def write_gguf(name, model, path):
    arch, vocab = MODELS[name][:2]
    gguf_arch = gguf.MODEL_ARCH[{"mistral": "LLAMA"}.get(arch, arch.upper())]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[gguf_arch])
    writer.add_name(name)
    writer.add_description("random weights, a test fixture of Tailor, not a trained model")
    add_shape(writer, arch, model.config)
    add_rope(writer, arch, model.config)
    {"spm": spm_vocab, "bpe": bpe_vocab}[vocab](writer)
    add_tensors(writer, arch, gguf_arch, model)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits_of(model, ids):
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    assert out.dtype == torch.float64
    return out.numpy()


def write_case(name, case, n_tokens, n_ctx, model, path):
    rng = np.random.Generator(np.random.PCG64(seed_of(name + "." + case)))
    ids = [int(i) for i in rng.integers(3, 256, n_tokens)]
    if MODELS[name][1] == "spm":
        ids[0] = 1
    logits = logits_of(model, ids)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    nll = -np.mean([log_p[i, ids[i + 1]] for i in range(n_tokens - 1)])
    seq, gaps = list(ids), []
    for _ in range(N_GREEDY):
        last = logits_of(model, seq)[-1]
        best = np.sort(last)[::-1]
        gaps.append(float("%.4g" % (best[0] - best[1])))
        seq.append(int(last.argmax()))
    assert len(seq) <= n_ctx
    window = getattr(model.config, "sliding_window", None) or n_tokens
    positions = sorted({0, 1, n_tokens // 4, n_tokens // 2, n_tokens - 2, n_tokens - 1}
                       | {p for p in (window - 1, window) if p < n_tokens})
    rows = logits[positions].astype("<f4")
    base = "%s.%s" % (name, case)
    rows.tofile(os.path.join(HERE, base + ".logits.f32"))
    gold = {
        "model": name + ".gguf", "model_sha256": hashlib.sha256(open(path, "rb").read()).hexdigest(),
        "case": case, "n_tokens": n_tokens, "n_vocab": N_VOCAB, "n_ctx": n_ctx, "positions": positions,
        "ids": ids, "logits_made_by": "transformers %s, float64, eager" % transformers.__version__,
        "logits_file": base + ".logits.f32", "logits_sha256": hashlib.sha256(rows.tobytes()).hexdigest(),
        "logits_std": float("%.4g" % logits.std()), "nll_mean": round(float(nll), 6),
        "argmax_all_positions": [int(i) for i in logits.argmax(axis=1)],
        "greedy_ids": seq[n_tokens:], "greedy_gaps": gaps, "greedy_gap_min": min(gaps),
    }
    with open(os.path.join(HERE, base + ".json"), "w") as f:
        json.dump(gold, f)
        f.write("\n")
    print("%-26s %-6s %3d tokens, std %6.3f, least greedy gap %.4f, %d bytes"
          % (name, case, n_tokens, gold["logits_std"], min(gaps), os.path.getsize(path)))


def main():
    torch.set_num_threads(1)
    for name in sys.argv[1:] or MODELS:
        path = os.path.join(HERE, name + ".gguf")
        model = build(name)
        write_gguf(name, model, path)
        for case, (n_tokens, n_ctx) in MODELS[name][3].items():
            write_case(name, case, n_tokens, n_ctx, model, path)


if __name__ == "__main__":
    main()
