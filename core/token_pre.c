/* Pre-tokenizers: how byte-level BPE vocabularies cut a text into words before merging. A name in
 * the file (tokenizer.ggml.pre) stands for patterns that were published with the model; the table
 * below says which, and what else the name implies.
 *
 * Each pattern is one step. A step cuts every word of the step before: each match is a word, and so
 * is what lies between two matches. A pattern sees its word and nothing around it. Matching is by
 * PCRE2 with Unicode properties, and no pattern here backtracks more than linearly in the text:
 * where the published one does, it is written so that a failed attempt inside a run of equal
 * characters is not repeated for each of them, and a comment says so.
 *
 * PCRE2 gets a text of the same length in which malformed bytes are a control character, and
 * characters that its Unicode tables (14.0 in Debian 12) do not have yet, up to 15.1, are older
 * ones of the same kind: only the places of the cuts are taken from it. */
#include "token_priv.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

enum {
    STEPS_MAX = 6,
    MATCH_LIMIT = 10000000,     /* PCRE2's own default, fixed here */
    HEAP_LIMIT_KIB = 64 * 1024, /* without JIT */
};

/* Parts that many patterns share. Macros because only literals concatenate. */
#define APOSTROPHE "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define MARKS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define LINES "\\s*[\\r\\n]+"
#define SPACES "\\s+(?!\\S)|\\s+"
#define REST MARKS "|" LINES "|" SPACES
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|" SPACES
#define LLAMA3 APOSTROPHE "|" WORD "|\\p{N}{1,3}|" REST
#define QWEN2 APOSTROPHE "|" WORD "|\\p{N}|" REST
/* Words that may begin with capitals and go on in small letters; `has` is \p{L} and \p{M} there. */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(end)                                                                                 \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" end "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER     \
    "*" end
#define SLASHED_MARKS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*"
#define GPT4O CASED(APOSTROPHE "?") "|\\p{N}{1,3}|" SLASHED_MARKS "|" LINES "|" SPACES
#define CJK "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define DEEPSEEK3                                                                                  \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}"    \
    "\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES "|" SPACES
#define BLOOM " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"
/* Published as \p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N})) and the like: threes counted from the right.
 * Only the first group of a run looks ahead, the others follow it. `run` and `end`: what else must
 * hold where a run begins and behind it. */
#define THREES(digit, run, end)                                                                    \
    "(?<!" digit ")" run digit "{1,3}(?=(?:" digit "{3})*+(?!" digit ")" end ")"                   \
    "|\\G(?<=" digit ")" digit "{3}"
/* [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]], by what it is not; and the small letters. */
#define UPPER_NO_HAN "[^\\p{Ll}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}\\p{sc:Han}]"
#define LOWER_NO_HAN "[^\\p{Lu}\\p{Lt}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}\\p{sc:Han}]"
#define DEEPSEEK_LETTERS                                                                           \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"                 \
    "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}"         \
    "\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}"                  \
    "\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"                       \
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"                 \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}"                 \
    "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}"                 \
    "\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}"         \
    "\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}"                           \
    "\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}"                 \
    "\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}"          \
    "\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}"                  \
    "\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}"         \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}"                  \
    "\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}"                 \
    "\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}"                 \
    "\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}"         \
    "\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"

enum pre_rule {
    RULE_DEFAULT,
    RULE_GPT2,
    RULE_DIGIT_GPT2,
    RULE_LLAMA3,
    RULE_QWEN2,
    RULE_QWEN35,
    RULE_DEEPSEEK_LLM,
    RULE_DEEPSEEK_CODER,
    RULE_DEEPSEEK3,
    RULE_FALCON,
    RULE_BLOOM,
    RULE_VIKING,
    RULE_TEKKEN,
    RULE_GPT4O,
    RULE_CHAMELEON,
    RULE_TINY_AYA,
    RULE_KIMI,
    RULE_SUPERBPE,
    RULE_BAILING,
    RULE_SEED_CODER,
    RULE_AFMOE,
    RULE_EXAONE_MOE,
    RULE_YOUTU,
    RULE_JAIS2,
    RULE_MINICPM5,
    RULE_UFAKZEKA,
    RULES_N,
};

static const char *const RULES[RULES_N][STEPS_MAX + 1] = {
    [RULE_DEFAULT] = {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"},
    [RULE_GPT2] = {GPT2},
    [RULE_DIGIT_GPT2] = {"\\p{N}", GPT2},
    [RULE_LLAMA3] = {LLAMA3},
    [RULE_QWEN2] = {QWEN2},
    [RULE_QWEN35] = {APOSTROPHE "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}|"
                                " ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES "|" SPACES},
    /* \s+$ is published for the fourth: one attempt for each run of white space. */
    [RULE_DEEPSEEK_LLM] = {"[\\r\\n]", "\\s?[" DEEPSEEK_LETTERS "]+",
                           "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}"
                           "\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+",
                           "(?<!\\s)\\s++\\z",
                           "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+",
                           "\\p{N}+"},
    [RULE_DEEPSEEK_CODER] = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+",
                             "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+",
                             "\\p{N}"},
    [RULE_DEEPSEEK3] = {"\\p{N}{1,3}", CJK, DEEPSEEK3},
    [RULE_FALCON] = {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"},
    [RULE_BLOOM] = {BLOOM},
    [RULE_VIKING] = {BLOOM, "\\p{N}"},
    [RULE_TEKKEN] = {CASED("") "|\\p{N}|" SLASHED_MARKS "|" LINES "|" SPACES},
    [RULE_GPT4O] = {GPT4O},
    [RULE_CHAMELEON] = {"<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", "[\\t\\n]|    |  ", "\\p{N}",
                        "[\\p{P}!-/:-@\\[-`{-~]", GPT2},
    /* \d{1,3}(?=(?:\d{3})*\b) is published for the first. */
    [RULE_TINY_AYA] = {THREES("\\d", "", "(?![\\p{L}\\p{M}\\p{N}\\p{Pc}])"), GPT4O},
    [RULE_KIMI] = {"\\p{sc:Han}+|[^\\r\\n\\p{L}\\p{N}]?" UPPER_NO_HAN "*" LOWER_NO_HAN
                   "+" APOSTROPHE "?|[^\\r\\n\\p{L}\\p{N}]?" UPPER_NO_HAN "+" LOWER_NO_HAN
                   "*" APOSTROPHE "?|\\p{N}{1,3}|" REST},
    /* (?=(\d{3})+(?!\d)) is published for the second: a cut before each three. */
    [RULE_SUPERBPE] = {"\\p{N}+", THREES("\\d", "(?=\\d{3})", "")},
    [RULE_BAILING] = {"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|" WORD "|\\p{N}|" MARKS
                      "|\\s*[\\r\\n]|" SPACES},
    [RULE_SEED_CODER] = {APOSTROPHE "|" WORD "|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" LINES
                                    "|" SPACES},
    [RULE_AFMOE] = {THREES("\\p{N}", "", ""),
                    "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}\\x{3040}-\\x{309F}"
                    "\\x{30A0}-\\x{30FF}\\x{FF65}-\\x{FF9F}\\x{2F00}-\\x{2FDF}\\x{E40}-\\x{E7F}"
                    "\\x{E80}-\\x{EFF}\\x{1780}-\\x{17FF}\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}"
                    "\\x{A9E0}-\\x{A9FF}\\x{AC00}-\\x{D7AF}\\x{1100}-\\x{11FF}]+",
                    DEEPSEEK3},
    [RULE_EXAONE_MOE] = {APOSTROPHE
                         "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*+(?: \\p{L}\\p{M}*+)*+)++"
                         "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|" SPACES},
    [RULE_YOUTU] =
        {"[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}"
         "\\x{2018}\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}"
         "\\x{FE30}-\\x{FE4F}]+|[\\x{3105}-\\x{312F}]+|" CJK,
         CASED(APOSTROPHE "?") "|\\p{N}|" SLASHED_MARKS "|" LINES "|" SPACES},
    /* LINES, but not tried again for each piece of one long run of spaces. */
    [RULE_JAIS2] = {APOSTROPHE "|" WORD "|\\p{N}{1,3}|" MARKS "|(?<![^\\S\\r\\n])" LINES
                               "|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)"
                               "|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)"
                               "|\\s{1,2}(?!\\S)|\\s{1}"},
    [RULE_MINICPM5] = {"\\p{N}{1,3}", APOSTROPHE "|" WORD "|\\p{N}+|" REST},
    [RULE_UFAKZEKA] = {WORD "|\\p{N}|" REST},
};

enum {
    WHOLE = TL_PRE_WHOLE_WORDS,
    BOS = TL_PRE_ADDS_BOS,
    TIDY = TL_PRE_TIDIES,
};

static const struct {
    const char *name;
    uint8_t rule, flags;
} NAMES[] = {
    {"default", RULE_DEFAULT, TIDY},
    {"llama-bpe", RULE_LLAMA3, WHOLE | BOS | TIDY},
    {"llama3", RULE_LLAMA3, WHOLE | BOS | TIDY},
    {"llama-v3", RULE_LLAMA3, WHOLE | BOS | TIDY},
    {"falcon3", RULE_LLAMA3, WHOLE | BOS | TIDY},
    {"falcon-h1", RULE_LLAMA3, WHOLE | BOS | TIDY},
    {"pixtral", RULE_LLAMA3, WHOLE | BOS | TIDY},
    {"midm-2.0", RULE_LLAMA3, WHOLE | BOS | TIDY},
    {"lfm2", RULE_LLAMA3, WHOLE | BOS | TIDY},
    {"jina-v5-nano", RULE_LLAMA3, WHOLE | BOS | TIDY},
    {"dbrx", RULE_LLAMA3, TIDY},
    {"smaug-bpe", RULE_LLAMA3, TIDY},
    {"chatglm-bpe", RULE_LLAMA3, TIDY},
    {"glm4", RULE_LLAMA3, WHOLE | TIDY},
    {"glm5", RULE_LLAMA3, WHOLE | TIDY},
    {"minicpm5", RULE_MINICPM5, WHOLE | TIDY},
    {"gpt-2", RULE_GPT2, TIDY},
    {"phi-2", RULE_GPT2, TIDY},
    {"mpt", RULE_GPT2, TIDY},
    {"olmo", RULE_GPT2, TIDY},
    {"jais", RULE_GPT2, TIDY},
    {"jina-es", RULE_GPT2, TIDY},
    {"jina-de", RULE_GPT2, TIDY},
    {"jina-v1-en", RULE_GPT2, TIDY},
    {"jina-v2-es", RULE_GPT2, TIDY},
    {"jina-v2-de", RULE_GPT2, TIDY},
    {"jina-v2-code", RULE_GPT2, TIDY},
    {"roberta-bpe", RULE_GPT2, TIDY},
    {"gigachat", RULE_GPT2, TIDY},
    {"a.x-4.0", RULE_GPT2, TIDY},
    {"mellum", RULE_GPT2, TIDY},
    {"modern-bert", RULE_GPT2, TIDY},
    {"exaone4", RULE_GPT2, TIDY},
    {"trillion", RULE_GPT2, 0},
    {"granite-docling", RULE_GPT2, 0},
    {"starcoder", RULE_DIGIT_GPT2, TIDY},
    {"refact", RULE_DIGIT_GPT2, TIDY},
    {"codeshell", RULE_DIGIT_GPT2, TIDY},
    {"exaone", RULE_DIGIT_GPT2, TIDY},
    {"minerva-7b", RULE_DIGIT_GPT2, TIDY},
    {"mellum2", RULE_DIGIT_GPT2, TIDY},
    {"command-r", RULE_DIGIT_GPT2, 0},
    {"smollm", RULE_DIGIT_GPT2, 0},
    {"qwen2", RULE_QWEN2, 0},
    {"deepseek-r1-qwen", RULE_QWEN2, 0},
    {"kormo", RULE_QWEN2, 0},
    {"f2llmv2", RULE_QWEN2, 0},
    {"hunyuan", RULE_QWEN2, 0},
    {"solar-open", RULE_QWEN2, 0},
    {"grok-2", RULE_QWEN2, 0},
    {"stablelm2", RULE_QWEN2, TIDY},
    {"megrez", RULE_QWEN2, TIDY},
    {"qwen35", RULE_QWEN35, 0},
    {"deepseek-llm", RULE_DEEPSEEK_LLM, 0},
    {"deepseek-coder", RULE_DEEPSEEK_CODER, 0},
    {"deepseek-v3", RULE_DEEPSEEK3, 0},
    {"hunyuan-dense", RULE_DEEPSEEK3, 0},
    {"joyai-llm", RULE_DEEPSEEK3, 0},
    {"falcon", RULE_FALCON, TIDY},
    {"poro-chat", RULE_BLOOM, 0},
    {"bloom", RULE_BLOOM, TIDY},
    {"gpt3-finnish", RULE_BLOOM, TIDY},
    {"viking", RULE_VIKING, 0},
    {"tekken", RULE_TEKKEN, WHOLE | BOS},
    {"gpt-4o", RULE_GPT4O, 0},
    {"llama4", RULE_GPT4O, 0},
    {"kanana2", RULE_GPT4O, 0},
    {"talkie", RULE_GPT4O, 0},
    {"minimax-m2", RULE_GPT4O, 0},
    {"granite-embed-multi-97m", RULE_GPT4O, WHOLE},
    {"chameleon", RULE_CHAMELEON, BOS},
    {"tiny_aya", RULE_TINY_AYA, 0},
    {"cohere2moe", RULE_TINY_AYA, 0},
    {"kimi-k2", RULE_KIMI, 0},
    {"superbpe", RULE_SUPERBPE, 0},
    {"bailingmoe", RULE_BAILING, 0},
    {"bailingmoe2", RULE_BAILING, 0},
    {"llada-moe", RULE_BAILING, 0},
    {"seed-coder", RULE_SEED_CODER, 0},
    {"afmoe", RULE_AFMOE, 0},
    {"exaone-moe", RULE_EXAONE_MOE, TIDY},
    {"youtu", RULE_YOUTU, WHOLE},
    {"jais-2", RULE_JAIS2, TIDY},
    {"ufakzeka", RULE_UFAKZEKA, 0},
};

/* Characters of Unicode 15.0 and 15.1 that matter to a pattern, and a character of Unicode 14 of
 * the same category and length in UTF-8. The Mongolian vowel separator has long ceased to be white
 * space, but not for PCRE2. In ascending order. */
static const struct {
    uint32_t first, last, stand_in;
} STAND_INS[] = {
    {0xCF3, 0xCF3, 0x903},       {0xECE, 0xECE, 0x901},       {0x180E, 0x180E, 0x200B},
    {0x2FFC, 0x2FFF, 0x2300},    {0x31EF, 0x31EF, 0x2300},    {0x10EFD, 0x10EFF, 0x11001},
    {0x1123F, 0x11240, 0x10280}, {0x11241, 0x11241, 0x11001}, {0x11B00, 0x11B09, 0x10100},
    {0x11F00, 0x11F01, 0x11001}, {0x11F02, 0x11F02, 0x10280}, {0x11F03, 0x11F03, 0x11001},
    {0x11F04, 0x11F10, 0x10280}, {0x11F12, 0x11F33, 0x10280}, {0x11F34, 0x11F3A, 0x11001},
    {0x11F3E, 0x11F42, 0x11001}, {0x11F43, 0x11F4F, 0x10100}, {0x11F50, 0x11F59, 0x1D7CE},
    {0x1342F, 0x1342F, 0x10280}, {0x13440, 0x13440, 0x11001}, {0x13441, 0x13446, 0x10280},
    {0x13447, 0x13455, 0x11001}, {0x1B132, 0x1B132, 0x10280}, {0x1B155, 0x1B155, 0x10280},
    {0x1D2C0, 0x1D2D3, 0x10107}, {0x1DF25, 0x1DF2A, 0x1DF00}, {0x1E030, 0x1E06D, 0x16B40},
    {0x1E08F, 0x1E08F, 0x11001}, {0x1E4D0, 0x1E4EB, 0x10280}, {0x1E4EC, 0x1E4EF, 0x11001},
    {0x1E4F0, 0x1E4F9, 0x1D7CE}, {0x1F6DC, 0x1F6DC, 0x1F300}, {0x1F774, 0x1F776, 0x1F300},
    {0x1F77B, 0x1F77F, 0x1F300}, {0x1F7D9, 0x1F7D9, 0x1F300}, {0x1FA75, 0x1FA77, 0x1F300},
    {0x1FA87, 0x1FA88, 0x1F300}, {0x1FAAD, 0x1FAAF, 0x1F300}, {0x1FABB, 0x1FABD, 0x1F300},
    {0x1FABF, 0x1FABF, 0x1F300}, {0x1FACE, 0x1FACF, 0x1F300}, {0x1FADA, 0x1FADB, 0x1F300},
    {0x1FAE8, 0x1FAE8, 0x1F300}, {0x1FAF7, 0x1FAF8, 0x1F300}, {0x2B739, 0x2B739, 0x20000},
    {0x2EBF0, 0x2EE5D, 0x20000}, {0x31350, 0x323AF, 0x20000},
};

struct tl_pre {
    pcre2_code *steps[STEPS_MAX]; /* owned */
    unsigned n_steps;
    pcre2_match_context *limits; /* owned */
};

static tl_err compile(pcre2_code **out, const char *pattern, const tl_log *log) {
    int error;
    PCRE2_SIZE at;
    pcre2_code *const code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                           PCRE2_UTF | PCRE2_UCP, &error, &at, NULL);
    if (code == NULL && error == PCRE2_ERROR_HEAP_FAILED) {
        return TL_ERR_MEMORY;
    }
    if (code == NULL) {
        return tl_fail(log, TL_ERR_UNSUPPORTED,
                       "pre-tokenizer: this PCRE2 refuses a pattern at %zu with error %d: %s", at,
                       error, pattern);
    }
    /* Where there is no JIT, matching is slower and the result the same. */
    (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    *out = code;
    return TL_OK;
}

tl_err tl_pre_open(tl_pre **out, tl_str name, unsigned *flags, const tl_log *log) {
    const size_t n_names = sizeof NAMES / sizeof *NAMES;
    size_t which = 0;
    while (which < n_names && !tl_str_is(name, NAMES[which].name)) {
        which++;
    }
    if (which == n_names) {
        which = 0;
        const int shown = name.len < 64 ? (int)name.len : 64;
        tl_say(log, TL_LEVEL_WARN,
               name.len > 0
                   ? "pre-tokenizer '%.*s' is not known: '%s' is used, answers may be worse"
                   : "the file names no pre-tokenizer%.*s: '%s' is used, answers may be worse",
               shown, name.data, NAMES[0].name);
    }
    tl_pre *pre = calloc(1, sizeof *pre);
    if (pre == NULL) {
        return TL_ERR_MEMORY;
    }
    tl_err err = TL_OK;
    const char *const *const steps = RULES[NAMES[which].rule];
    while (err == TL_OK && steps[pre->n_steps] != NULL) {
        err = compile(&pre->steps[pre->n_steps], steps[pre->n_steps], log);
        pre->n_steps += err == TL_OK;
    }
    pre->limits = pcre2_match_context_create(NULL);
    if (err == TL_OK && pre->limits == NULL) {
        err = TL_ERR_MEMORY;
    }
    if (err) {
        tl_pre_close(&pre);
        return err;
    }
    pcre2_set_match_limit(pre->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(pre->limits, HEAP_LIMIT_KIB);
    *flags = NAMES[which].flags;
    *out = pre;
    return TL_OK;
}

void tl_pre_close(tl_pre **pre) {
    if (*pre != NULL) {
        for (unsigned i = 0; i < (*pre)->n_steps; i++) {
            pcre2_code_free((*pre)->steps[i]);
        }
        pcre2_match_context_free((*pre)->limits);
        free(*pre);
        *pre = NULL;
    }
}

/* The stand-in for the character at p, or 0 when it may stay. */
static uint32_t find_stand_in(const uint8_t *p, unsigned len) {
    const uint32_t value = tl_utf8_value(p, len);
    for (size_t i = 0; i < sizeof STAND_INS / sizeof *STAND_INS; i++) {
        if (value < STAND_INS[i].first) {
            return 0;
        }
        if (value <= STAND_INS[i].last) {
            return STAND_INS[i].stand_in;
        }
    }
    return 0;
}

/* Writes a character of 3 or 4 bytes over one of the same length. */
static void write_over(uint8_t *p, uint32_t value, unsigned len) {
    for (unsigned i = len - 1; i > 0; i--) {
        p[i] = (uint8_t)(0x80 | (value & 0x3F));
        value >>= 6;
    }
    p[0] = (uint8_t)((len == 3 ? 0xE0 : 0xF0) | value);
}

/* Makes *fit the text, or a copy in `buffer` of the same length that PCRE2 may see. */
static tl_err make_fit(tl_str text, tl_str *fit, tl_bytes *buffer) {
    bool copied = false;
    *fit = text;
    for (size_t i = 0; i < text.len;) {
        const uint8_t *const p = (const uint8_t *)text.data + i;
        const unsigned len = tl_utf8_len(p, text.len - i);
        const uint32_t stand_in = len >= 3 ? find_stand_in(p, len) : 0;
        if ((len == 0 || stand_in != 0) && !copied) {
            buffer->len = 0;
            TL_TRY(tl_bytes_add(buffer, text.data, text.len));
            fit->data = buffer->data;
            copied = true;
        }
        if (len == 0) {
            buffer->data[i] = 1;
        } else if (stand_in != 0) {
            write_over((uint8_t *)buffer->data + i, stand_in, len);
        }
        i += len > 0 ? len : 1;
    }
    return TL_OK;
}

static tl_err add_cut(tl_ids *cuts, size_t at) { return tl_ids_add(cuts, (uint32_t)at); }

/* Cuts one word, text[at .. at + n-1]. A match that fails for want of resources is no match. */
static tl_err cut_word(const tl_pre *pre, unsigned step, tl_str text, size_t at, size_t n,
                       pcre2_match_data *match, tl_ids *cuts) {
    const PCRE2_SPTR word = (PCRE2_SPTR)text.data + at;
    const PCRE2_SIZE *const ends = pcre2_get_ovector_pointer(match);
    const uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    size_t done = 0;
    while (done < n) {
        int rc = pcre2_match(pre->steps[step], word, n, done, options, match, pre->limits);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
            rc = pcre2_match(pre->steps[step], word, n, done, options | PCRE2_NO_JIT, match,
                             pre->limits);
        }
        if (rc < 0) {
            break;
        }
        if (ends[0] > done) {
            TL_TRY(add_cut(cuts, at + ends[0]));
        }
        TL_TRY(add_cut(cuts, at + ends[1]));
        done = ends[1];
    }
    return done < n ? add_cut(cuts, at + n) : TL_OK;
}

tl_err tl_pre_split(const tl_pre *pre, tl_str text, tl_ids *cuts, tl_ids *next, tl_bytes *buffer) {
    tl_str fit;
    TL_TRY(make_fit(text, &fit, buffer));
    pcre2_match_data *const match = pcre2_match_data_create(1, NULL);
    if (match == NULL) {
        return TL_ERR_MEMORY;
    }
    cuts->n = 0;
    tl_err err = add_cut(cuts, text.len);
    for (unsigned step = 0; step < pre->n_steps && err == TL_OK; step++) {
        next->n = 0;
        size_t at = 0;
        for (size_t i = 0; i < cuts->n && err == TL_OK; i++) {
            err = cut_word(pre, step, fit, at, cuts->data[i] - at, match, next);
            at = cuts->data[i];
        }
        const tl_ids coarser = *cuts;
        *cuts = *next;
        *next = coarser;
    }
    pcre2_match_data_free(match);
    return err;
}
