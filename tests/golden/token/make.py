#!/usr/bin/env python3
"""Makes the tokenizer vectors of this folder with other implementations; commit what it writes.

    make.py          ran with tokenizers 0.23.3, sentencepiece 0.2.3, gguf 0.19.0, llama-cpp-python 0.3.36

words.json   where published pre-tokenizers cut: Hugging Face tokenizers (Oniguruma), which shares
             neither code nor regular expression engine with us. Lengths in bytes.
bpe.json     a byte-level BPE vocabulary trained here; ids by Hugging Face tokenizers
spm.json     a SentencePiece vocabulary trained here; ids by sentencepiece
special.json added tokens in both, for flags and families; ids by llama.cpp
Texts, corpus and vocabularies are ours.
"""
import ctypes
import io
import json
import os
import random
import tempfile

import gguf
import llama_cpp
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

CORPUS = """The engine reads a model file, checks it, and maps it into memory; nothing is copied twice.
She said: "I'm sure they've seen what we'll do, and that it's what you'd want." Don't you think so?
In 1851 the ship left with 123 men, 4567 barrels and 12,345.67 pounds; 3.14159 is not 22/7 or 10^9.
int main(int argc, char **argv) { for (int i = 0; i < argc; i++) { printf("%s\\n", argv[i]); } return 0; }
def tokenize(text):\n    return [token for token in text.split(' ') if token != '']\n\n\n# done
Das Mädchen läuft über die Straße, weil es schön ist; ÜBER ALLES, größer und größer.
Le garçon a mangé l'été dernier à l'école; où êtes-vous? Ça va très bien, merci.
Мама мыла раму, а папа читал газету. МОСКВА, 2024 год. Привет, мир!
Η γρήγορη αλεπού πηδάει πάνω από τον τεμπέλη σκύλο.
यह एक छोटा वाक्य है जिसमें मात्राएँ हैं। नमस्ते दुनिया।
هذا نص قصير باللغة العربية، وفيه أرقام ١٢٣ وعلامات. שלום עולם, זה טקסט קצר.
这是一个小小的测试。我们在这里写一些中文句子,看看分词器怎么切。 日本語のテキストとカタカナもあります。
한국어 문장도 하나 있습니다. ภาษาไทยก็มีเหมือนกัน
🦙 and 🚀🚀 with 👩‍👩‍👧 families, ½ cup, Ⅷ kings, x² + y³ = z⁴ – “quoted” ‘text’ … — done!
http://example.com/path?query=1&other=two#frag user@example.org C:\\\\temp\\\\file.txt /usr/local/bin:$PATH
"""

TEXTS = [
    "", " ", "  ", "   ", "\t", "\n", "\n\n", "\n\n\n", "\r\n", "\r\n\r\n", " \n", " \n \n", "\n \n", "  \n\n  ",
    "\t\t\tx", "    def f(x):\n        return x\n", " leading", "trailing ", "two  spaces", "a\tb\t\tc", "a\nb\r\nc\rd",
    "x" * 40, " " * 33 + "y", "\n" * 9 + "z", "a b  c   d    e     f", "\u00a0nbsp\u00a0x", "\u2003em \u2003space",
    "\u3000wide\u3000", "\u200bzero\u200bwidth", "\ufeffbom", "\u0085next", "\u2028line\u2029par",
    "0", "42", "123", "1234", "12345", "1234567", "123456789012", "3.14159", "1,000,000", "-17", "1e-5", "0x1F",
    "2024-02-29T13:45:59Z", "a1b22c333d4444e", " 1 22 333 4444", "١٢٣٤٥", "१२३ ४५", "１２３４", "½ ¾ 10² x³", "ⅧⅨ",
    "Hello, world!", "I'm can't won't they've we'll you'd it's", "IT'S I'M WE'LL THEY'VE D'S 'tis 'Re",
    "don’t ‘quoted’ “double”", "(a[b]{c}<d>)", "...", "???!!!", "--- --- ---", "===", "a == b != c <= d", "$19.99 £5 €7",
    "100% sure", "C:\\path\\to\\file", "/usr/bin:$PATH", "#include <stdio.h>", "x+=1;//c", "/* c */\n// d\n\n", "a_b-c.d~e",
    "foo::bar->baz()", "{\"k\": [1, 2.5, null]}", "<div class=\"x\">&amp;</div>", "\\frac{a}{b}", "`code` ~~x~~ ^y^ |z|",
    "!a ?b .c ,d ;e :f", "! a ? b . c", "a.b,c;d", "...\n\n...\n", "!!!\r\n\r\nx", "word/\n/word//\n",
    "naïve café Ångström", "ÀÉÎÕÜ àéîõü", "École ÉCOLE éCOLE", "camelCase PascalCase snake_case SCREAMING_CASE",
    "iPhone XMLHttpRequest aAaAaAaA", "Straße STRASSE ẞ ß", "Привет МИР приветМир", "Γειά ΣΟΥ", "שלום עולם",
    "مرحبا بالعالم، نعم", "اَلْعَرَبِيَّةُ", "नमस्ते दुनिया।", "हिन्दी में", "বাংলা ভাষা", "தமிழ் மொழி", "ภาษาไทย", "中文字符", "中文,English混合123",
    "日本語のテキスト、カタカナ。", "ｶﾅ ー々〇", "한국어 텍스트", "Việt Nam", "e\u0301 combining a\u0300\u0323", "\u0301 alone",
    "🦙", "🙂🙃 🚀", "👩\u200d👩\u200d👧 family", "🏳️\u200d🌈", "🇫🇷🇯🇵", "𝒳𝓎𝓏", "𐐀𐐨 𐍈", "ǅ ǆ Ǆ ʼn ĳ", "ﬁ ﬂ", "①②③ ㈠",
    "\x00\x01\x02", "\x1c\x1d\x7f", "\ue000 private", "\u0378 unassigned", "� replaced", "« guillemets » ¡hola! ¿qué?",
    "a\u00adb soft", "§ 5 ¶ ·", "‐ – — ― …", "・「」『』", "，。！？；：", "\u0964 \u06d4 \u060c", "The quick brown fox. ", "\n\nThe end\n",
    "IMGIMGABZ <sentinel:12> IMGIMGABCDEFZ", "don't   'll 've", "''' \"\"\" ```", "a'b'c 'd 'S 's", "1.2.3 v1.0-rc2", "\t \t x", "x \t",
    " \u3000\u00a0 x", "、 \u3000\n\n加", "   1", "\n   \n  x", "hello\n\n  world   \n",
    "x\U00031350y \U0002ebf0 z", "a\u180eb \u180e c", "\U0001fae8\U0001f6dc! x", "\U00011f04\U00011f50\U00011f43",
]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UP, LOW = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
HEAD = r"[^\r\n\p{L}\p{N}]?"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = f"{HEAD}{UP}*{LOW}+{SUFFIX}|{HEAD}{UP}+{LOW}*{SUFFIX}|\\p{{N}}{{1,3}}|{TAIL}"
TEKKEN = f"{HEAD}{UP}*{LOW}+|{HEAD}{UP}+{LOW}*|\\p{{N}}|{TAIL}"
DEEPSEEK3 = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
             r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK_LETTERS = (
    "[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376"
    "\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-"
    "\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a"
    "\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
    "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
    "\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f"
    "\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b"
    "\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
    "\U000118a0-\U000118df\U0001e900-\U0001e943]")
CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
HAN = r"\p{Han}"
KIMI = (rf"[{HAN}]+|{HEAD}[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}&&[^{HAN}]]*[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}&&[^{HAN}]]+{SUFFIX}"
        rf"|{HEAD}[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}&&[^{HAN}]]+[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}&&[^{HAN}]]*{SUFFIX}"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def splits(*patterns):
    return [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]


# As the tokenizer.json of each family has it, ByteLevel's own pattern written out.
RULES = {
    "default": splits(r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
    "gpt-2": splits(GPT2),
    "starcoder": [pre_tokenizers.Digits(individual_digits=True)] + splits(GPT2),
    "llama-bpe": splits(LLAMA3),
    "qwen2": splits(QWEN2),
    "qwen35": splits(QWEN35),
    "falcon": splits(r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"),
    "deepseek-llm": splits(r"[\r\n]", r"\s?" + DEEPSEEK_LETTERS + "+", r"\s?[!-/:-~！-／：-～‘-‟\u3000-。]+", r"\s+$",
                           "[一-龥ࠀ-一가-퟿]+", r"\p{N}+"),
    "deepseek-coder": splits(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+") + [pre_tokenizers.Digits(True)],
    "deepseek-v3": splits(r"\p{N}{1,3}", CJK, DEEPSEEK3),
    "bloom": splits(" ?[^(\\s|[.,!?…。，、।۔،])]+"),
    "viking": splits(" ?[^(\\s|[.,!?…。，、।۔،])]+", r"\p{N}"),
    "tekken": splits(TEKKEN),
    "gpt-4o": splits(GPT4O),
    "tiny_aya": splits(r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O),
    "kimi-k2": splits(KIMI),
    "superbpe": splits(r"\p{N}+", r"(?=(\d{3})+(?!\d))"),
    "bailingmoe": splits(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"),
    "seed-coder": splits(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"),
    "afmoe": splits(r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))",
                    "[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f\u0e80-\u0eff"
                    "\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+", DEEPSEEK3),
    "exaone-moe": splits(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"),
    "jais-2": splits(LLAMA3.replace(r"\s+(?!\S)|\s+", "") + "".join(r"\s{%d}(?!\S)|" % n for n in (512, 256, 128, 64, 32, 16, 8, 4))
                     + r"\s{1,2}(?!\S)|\s{1}"),
    "minicpm5": splits(r"\p{N}{1,3}", LLAMA3.replace("{1,3}", "+")),
    "chameleon": splits("<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )")
    + [pre_tokenizers.Digits(True), pre_tokenizers.Punctuation("isolated")] + splits(GPT2),
}


def words():
    cases = {}
    for name, steps in RULES.items():
        pre = pre_tokenizers.Sequence(steps)
        cases[name] = []
        for text in TEXTS:
            got = [(a, b) for _, (a, b) in pre.pre_tokenize_str(text) if b > a]
            assert all(x[1] == y[0] for x, y in zip(got, got[1:])), (name, text, got)
            assert not got or (got[0][0], got[-1][1]) == (0, len(text)), (name, text, got)
            cases[name].append([len(text[a:b].encode()) for a, b in got])
    write("words.json", {"made_by": "tokenizers", "texts": TEXTS, "words": cases})


def lines(value, depth):
    """JSON with the inner lists on one line each."""
    if depth == 0 or not isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    if isinstance(value, dict):
        return "{\n" + ",\n".join(json.dumps(k) + ": " + lines(v, depth - 1) for k, v in value.items()) + "\n}"
    return "[\n" + ",\n".join(lines(v, depth - 1) for v in value) + "\n]"


def write(name, value):
    with open(os.path.join(HERE, name), "w", encoding="ascii", newline="\n") as f:
        f.write(lines(value, 2) + "\n")
    print(name, os.path.getsize(f.name))


def fragments(seed, n):
    """More texts: pieces of TEXTS and of the corpus, shuffled."""
    r = random.Random(seed)
    return ["".join(r.choice(TEXTS) if r.random() < 0.5 else CORPUS[(a := r.randrange(len(CORPUS))):a + r.randrange(1, 20)]
                    for _ in range(r.randrange(2, 6))) for _ in range(n)]


def bpe():
    """Whole words on: a token that no merge reaches is taken, as Llama 3 does."""
    tok = Tokenizer(models.BPE(ignore_merges=True))
    tok.pre_tokenizer = pre_tokenizers.Sequence(splits(LLAMA3) + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator([CORPUS], trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                                         show_progress=False))
    model = json.loads(tok.to_str())["model"]
    vocab = model["vocab"]
    for extra in ("zebra", "Ġwhole", "Ġ!!!"):
        vocab[extra] = len(vocab)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    pairs = [tuple(m.split(" ")) for m in merges]
    texts = TEXTS + ["zebra whole !!! zebras zebra", " zebra", "wholewhole"] + fragments(1, 60)
    cases = {}
    for pre, pattern, whole in (("llama-bpe", LLAMA3, True), ("qwen2", QWEN2, False), ("gpt-2", GPT2, False)):
        t = Tokenizer(models.BPE(vocab=vocab, merges=pairs, ignore_merges=whole))
        t.pre_tokenizer = pre_tokenizers.Sequence(splits(pattern) + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        cases[pre] = [t.encode(x).ids for x in texts]
    tokens = sorted(vocab, key=vocab.get)
    write("bpe.json", {"made_by": "tokenizers", "tokens": tokens, "merges": merges, "texts": texts, "ids": cases})
    return tokens, merges


def spm():
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([l for l in CORPUS.splitlines() if l]), model_writer=out, vocab_size=620, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        character_coverage=0.99, allow_whitespace_only_pieces=True, add_dummy_prefix=True, minloglevel=2,
        hard_vocab_limit=False)
    sp = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    tokens, scores, types = [], [], []
    for i in range(len(sp)):
        tokens.append(sp.id_to_piece(i))
        scores.append(round(sp.get_score(i), 4))
        types.append(UNKNOWN if sp.is_unknown(i) else CONTROL if sp.is_control(i) else BYTE if sp.is_byte(i) else NORMAL)
    # What only llama.cpp would do: take a control token that a text happens to spell.
    texts = [t for t in TEXTS + fragments(2, 60) if "<" not in t and "\x00" not in t and "\u2581" not in t]
    ids = [sp.encode(t) if t else [] for t in texts]
    write("spm.json", {"made_by": "sentencepiece", "tokens": tokens, "scores": scores, "types": types, "texts": texts, "ids": ids})
    return tokens, scores, types


class Peer:
    def __init__(self, keys):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as f:
            w = gguf.GGUFWriter(f.name, "llama")
            for key, value in keys.items():
                name = key if key.startswith("general.") else "tokenizer.ggml." + key
                if isinstance(value, list):
                    w.add_array(name, value)
                elif isinstance(value, bool):
                    w.add_bool(name, value)
                elif isinstance(value, int):
                    w.add_uint32(name, value)
                else:
                    w.add_string(name, value)
            w.write_header_to_file()
            w.write_kv_data_to_file()
            w.close()
            params = llama_cpp.llama_model_default_params()
            params.vocab_only = True
            self.model = llama_cpp.llama_model_load_from_file(f.name.encode(), params)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)

    def encode(self, text, bos, special):
        data = text.encode()
        ids = (llama_cpp.llama_token * (len(data) + 16))()
        n = llama_cpp.llama_tokenize(self.vocab, data, len(data), ids, len(ids), bos, special)
        return list(ids[:n])


SPECIALS = [["<s>", CONTROL], ["<|end|>", CONTROL], ["<|endoftext|>", CONTROL], ["<|user|>", CONTROL], ["<|assistant|>", CONTROL],
            ["<mask>", CONTROL], ["<tool>", USER], ["<tool_call>", USER], ["\n\n", USER], ["\n\n\n", USER], ["   ", USER], ["of", USER],
            ["é", USER], ["<|e", USER], ["q", USER]]
SPECIAL_TEXTS = ["<s>", "<s> a", " <s>", "a<s>b", "<s><s>", "<|end|>", "<|user|>\nhi<|end|>\n<|assistant|>\n", "<|user|>  \n x <|end|>   y",
                 "a <|endoftext|> b", "<|endoftext|>\n\n\nx", "<tool><tool_call></tool>", "<tool_cal", "a\n\nb\n\n\nc\n\n\n\n\nd", "of offer of",
                 "     x   y", "café é", "<|e<|end|><|en", "x <mask> y", "x \t<mask>\n y", "<|end|", "<|end|><|end|>", "", " ", "\n\n", "q", "aq",
                 "<|user|>", "<|user|> ", " <|user|> x", "The <|assistant|>the end", "<unk> x <unk>", "qq<s>q", "\n\n<s>\n\n", "<s>\n<|user|>\n\n\n z"]


def special(bpe_vocab, spm_vocab):
    llama_cpp.llama_backend_init()
    tokens, merges = bpe_vocab
    spm_tokens, scores, types = spm_vocab
    bpe_types = [NORMAL] * len(tokens)
    tokens, spm_tokens, types = list(tokens), list(spm_tokens), list(types)
    scores = [float(s) for s in scores]
    for text, kind in SPECIALS:
        for known, known_types in ((tokens, bpe_types), (spm_tokens, types)):
            if text in known:
                known_types[known.index(text)] = kind
            else:
                known.append(text)
                known_types.append(kind)
    scores += [0.0] * (len(spm_tokens) - len(scores))
    vocabularies = {"bpe": {"model": "gpt2", "tokens": tokens, "token_type": bpe_types, "merges": merges},
                    "spm": {"model": "llama", "tokens": spm_tokens, "scores": scores, "token_type": types}}
    common = {"bpe": {"bos_token_id": tokens.index("<s>"), "eos_token_id": tokens.index("<|end|>")},
              "spm": {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}}
    variants = [
        ("llama-bpe", "bpe", {"pre": "llama-bpe"}), ("qwen2", "bpe", {"pre": "qwen2"}), ("qwen2-bos-eos", "bpe", {"pre": "qwen2", "add_bos_token": True, "add_eos_token": True}),
        ("jina", "bpe", {"pre": "jina-v2-es"}), ("deepseek-llm", "bpe", {"pre": "deepseek-llm"}),
        ("spm", "spm", {}), ("gemma", "spm", {"add_space_prefix": False}), ("phi3", "spm", {"general.name": "Phi-3 mini"}),
        ("no-bos", "spm", {"add_bos_token": False, "add_eos_token": True}),
    ]
    out = {}
    for name, kind, keys in variants:
        keys = {**common[kind], **keys}
        peer = Peer({**vocabularies[kind], **keys})
        out[name] = {"vocabulary": kind, "keys": keys,
                     "ids": [peer.encode(t, False, False) for t in SPECIAL_TEXTS], "ids_special": [peer.encode(t, True, True) for t in SPECIAL_TEXTS]}
    write("special.json", {"made_by": "llama-cpp-python " + llama_cpp.__version__, "bpe": [tokens[len(bpe_vocab[0]):], bpe_types], "spm": [spm_tokens[len(spm_vocab[0]):], types],
                           "texts": SPECIAL_TEXTS, "variants": out})


quiet = llama_cpp.llama_log_callback(lambda level, text, user: None)
llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
words()
special(bpe(), spm())
