"""Byte-level BPE of the demo model: our own merges, the published `llama-bpe` pre-tokenizer.

The vocabulary is laid out by hand where it matters for a small model that must copy: every group of one to three
digits is one token (that pre-tokenizer cuts numbers into such groups), and so is every pair of capitals, so that a
seven-digit number and a five-letter variable are three tokens each. The other merges are learned from text.

  tokenizer.py TOKENIZER.json [TEXT ...]      makes the vocabulary
"""
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import corpus

SPECIALS = ["<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
BOS, EOS, IM_START, IM_END, PAD = range(len(SPECIALS))
VOCAB = 4096
LLAMA_BPE = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
             r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def pre():
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA_BPE), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def digit_merges():
    """Merges that reach every group of two and three digits by plain BPE, lowest rank first."""
    two = [(a, b) for a in "0123456789" for b in "0123456789"]
    rank = {a + b: i for i, (a, b) in enumerate(two)}
    three = []
    for a, b in two:
        for c in "0123456789":
            three.append((a + b, c) if rank[a + b] <= rank[b + c] else (a, b + c))
    return two + three


def capital_merges():
    caps = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [("\u0120", a) for a in caps] + [(a, b) for a in caps for b in caps]


def build(texts):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fixed = digit_merges() + capital_merges()
    room = VOCAB - len(SPECIALS) - len(alphabet) - len(fixed)
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre()
    # Digits are laid out by hand, so none is shown to the learner.
    clean = ("".join(" " if c.isdigit() else c for c in t) for t in texts)
    learner.train_from_iterator(clean, trainers.BpeTrainer(
        vocab_size=VOCAB, initial_alphabet=alphabet, show_progress=False))
    import json
    learned = [tuple(m) for m in json.loads(learner.to_str())["model"]["merges"]]
    have = {a + b for a, b in fixed}
    learned = [m for m in learned if m[0] + m[1] not in have][:room]
    # Learned merges first: they decide how words are cut; the fixed ones only meet digits and runs of capitals.
    merges = digit_merges() + [m for m in capital_merges()[:26]] + learned + capital_merges()[26:]
    vocab = {}
    for piece in SPECIALS + alphabet + [a + b for a, b in merges]:
        vocab.setdefault(piece, len(vocab))
    assert len(vocab) == VOCAB, len(vocab)
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    tok.pre_tokenizer = pre()
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS])
    return tok


def main():
    out, files = sys.argv[1], sys.argv[2:]
    r = random.Random(1)
    texts = [corpus.plain(corpus.sample(r, 2000, [])) for _ in range(2500)]
    for f in files:
        texts.append(open(f, encoding="utf-8").read()[:300000])
    tok = build(texts)
    tok.save(out)
    t = "VAR XKQPD = VAR ABCDE. The special magic number for hollow-basket is: 1234567. I'm Tailor's demo model."
    print(tok.get_vocab_size(), tok.encode(t).tokens)


if __name__ == "__main__":
    main()
