/* The option table and its reader. Every value is range-checked by its kind; what only the model
 * can know (a token id, a context that fits) is checked by who uses it. */
#include "args.h"

#include "others.h"
#include "out.h"

#include "core/gauge.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum option_kind { O_FLAG, O_STRING, O_U32, O_U64, O_FLOAT } option_kind;

struct option {
    const char *name, *short_name; /* short_name may be NULL */
    option_kind kind;
    size_t off; /* in struct cli_args */
    unsigned commands;
    const char *value; /* what the help calls the value */
    const char *help;
};

#define AT(field) offsetof(struct cli_args, field)
enum { PROMPTED = CLI_RUN | CLI_TOKENIZE, SAMPLED = CLI_CHAT | CLI_RUN };
static const struct option options[] = {
    {"--model", "-m", O_STRING, AT(model),
     CLI_ENGINE | CLI_TOKENIZE | CLI_TEMPLATE | CLI_INFO | CLI_FIT, "FILE",
     "the model, a GGUF file (any part of a split one)"},
    {"--model", "-m", O_STRING, AT(model), CLI_PLAN, "NAME|FILE",
     "a well-known model by name, or a GGUF file, of which the header is read"},
    {"--gpu", NULL, O_STRING, AT(gpu), CLI_PLAN, "NAME|NUMBERS",
     "a card by name, cpu (measured here), or bw=GB/s,pcie=GB/s,mem=GiB[,f16=T,int8=T,..]"},
    {"--weights", NULL, O_STRING, AT(weights), CLI_PLAN, "TYPE",
     "of a model by name: f16, q8_0, q4_k ... (default q4_k)"},
    {"--ctx", "-c", O_STRING, AT(ctxs), CLI_PLAN, "N[,N]",
     "contexts in tokens (default: the model's own)"},
    {"--miss", NULL, O_FLOAT, AT(miss), CLI_PLAN, "P",
     "part of the selected rows that are not on the device already (default 0.25)"},
    {"--schedule", NULL, O_FLAG, AT(schedule), CLI_PLAN, NULL,
     "also print the recorded step: each op, its stream, waits, bytes and times"},
    {"--prompt", "-p", O_STRING, AT(prompt), PROMPTED, "TEXT", "the text"},
    {"--file", "-f", O_STRING, AT(file), PROMPTED | CLI_CHAT | CLI_FIT, "FILE",
     "the text from a file ('-' is standard input); chat: a document to talk about"},
    {"--ids", NULL, O_STRING, AT(ids), CLI_RUN, "\"1 2 3\"",
     "the prompt as token ids, nothing added"},
    {"--n-predict", "-n", O_U32, AT(n_predict), SAMPLED | CLI_BENCH | CLI_EVAL, "N",
     "generate at most N tokens; eval: judge at most N tokens of a text"},
    {"--prefill", NULL, O_U32, AT(n_prefill), CLI_RUN | CLI_BENCH | CLI_EVAL, "N",
     "only the first N prompt tokens at once, the rest one by one (eval: half of a text); bench: "
     "tokens of prefill"},
    {"--logits", NULL, O_STRING, AT(logits), CLI_RUN, "FILE",
     "write the logits behind each prompt token as float32"},
    {"--decode", NULL, O_STRING, AT(decode), CLI_TOKENIZE, "\"1 2 3\"", "ids to text instead"},
    {"--bos", NULL, O_FLAG, AT(bos), CLI_TOKENIZE, NULL,
     "add the begin token where the model wants one"},
    {"--special", NULL, O_FLAG, AT(special), PROMPTED, NULL,
     "read control tokens such as <|eot_id|> in the text as tokens"},
    {"--lines0", NULL, O_FLAG, AT(lines0), CLI_TOKENIZE, NULL,
     "the file holds many texts separated by NUL; one JSON line each"},
    {"--template", NULL, O_STRING, AT(template_file), CLI_TEMPLATE, "FILE", "a Jinja template"},
    {"--messages", NULL, O_STRING, AT(messages), CLI_TEMPLATE, "FILE",
     "JSON: {\"messages\": [...]} and other template variables"},
    {"--add-generation-prompt", NULL, O_FLAG, AT(generation_prompt), CLI_TEMPLATE, NULL,
     "end with the start of an answer"},
    {"--date", NULL, O_STRING, AT(date), CLI_TEMPLATE, "DATE",
     "what the template is told the day is, e.g. \"26 Jul 2024\""},
    {"--system", NULL, O_STRING, AT(system), CLI_CHAT, "TEXT", "the system message"},
    {"--task", NULL, O_STRING, AT(tasks), CLI_EVAL, "T[,T]",
     "what to measure: ppl, kld, tasks by name, or all (see --task help)"},
    {"--tasks-file", NULL, O_STRING, AT(tasks_file), CLI_EVAL, "FILE",
     "tasks from a file: lines of {\"task\", \"input\", \"outputs\", \"match\"}"},
    {"--ctx", "-c", O_STRING, AT(ctxs), CLI_EVAL, "N[,N]",
     "contexts in tokens, prompt and answer together (default 4096)"},
    {"--samples", NULL, O_U32, AT(n_samples), CLI_EVAL, "N",
     "of each task (default 5, of a file all) and windows of a text (default 1)"},
    {"--text", NULL, O_STRING, AT(text), CLI_EVAL, "FILE",
     "what needles are hidden in, and what ppl and kld read (default: built-in sentences)"},
    {"--raw", NULL, O_FLAG, AT(raw), CLI_EVAL, NULL, "tasks without the model's chat template"},
    {"--plot", NULL, O_STRING, AT(plot), CLI_EVAL | CLI_FIT, "FILE.svg", "draw the results"},
    {"--output", "-o", O_STRING, AT(output), CLI_FIT, "POLICY", "write the policy file"},
    {"--one-codebook", NULL, O_FLAG, AT(books_per_model), CLI_FIT, NULL,
     "one codebook for the whole model instead of one a layer (codecs vq-*)"},
    {"--indexes", NULL, O_FLAG, AT(indexes), CLI_FIT, NULL,
     "try every kind of index, too: how much of the attention it finds (takes longer)"},
    {"--ctx", "-c", O_U32, AT(n_ctx), CLI_FIT, "N",
     "use at most N tokens of the text (default 16384, and not more than the model's context)"},
    {"--kv", NULL, O_STRING, AT(kv), CLI_FIT, "PRESET",
     "what the policy file begins with (default tailor1)"},
    {"--ctx", "-c", O_U32, AT(n_ctx), CLI_ENGINE & ~CLI_EVAL, "N",
     "context in tokens (default: the model's, as far as memory goes)"},
    {"--kv", NULL, O_STRING, AT(kv), CLI_ENGINE | CLI_PLAN, "PRESET|FILE",
     "cache preset (see --kv help) or policy file; bench, eval, plan: A[,B] (default tailor, up to "
     "4096 tokens full; eval, plan: both)"},
    {"--topk", NULL, O_U32, AT(topk), CLI_ENGINE | CLI_PLAN, "N",
     "cache rows a KV head attends exactly in a step"},
    {"--window", NULL, O_STRING, AT(window), CLI_ENGINE | CLI_PLAN, "S,R",
     "first and newest cache rows that stay exact on the device"},
    {"--kv-set", NULL, O_STRING, AT(kv_set), CLI_ENGINE | CLI_PLAN | CLI_FIT, "KNOB=V[,..]",
     "any knob of the cache policy, e.g. k_codec=int4,hot=2048"},
    {"--tau", NULL, O_FLOAT, AT(tau), CLI_ENGINE | CLI_FIT, "T",
     "layers with a score above are dense: more of attention lies outside 5 % of the rows (0.2)"},
    {"--gauge", NULL, O_U32, AT(gauge), SAMPLED, "N",
     "every N tokens, compare one layer and head with exact attention; 0 is never (64)"},
    {"--device-mem", NULL, O_STRING, AT(device_mem), CLI_ENGINE | CLI_FIT | CLI_PLAN, "SIZE",
     "use at most this much device memory, e.g. 6GiB"},
    {"--host-mem", NULL, O_STRING, AT(host_mem), CLI_ENGINE | CLI_FIT | CLI_PLAN, "SIZE",
     "use at most this much host memory"},
    {"--depth", NULL, O_STRING, AT(depth), CLI_BENCH, "N[,N]",
     "tokens in the cache before measuring (default 0)"},
    {"--parallel", NULL, O_STRING, AT(parallel), CLI_BENCH, "N[,N]",
     "decode of so many sequences at once, at most 16, beside one alone"},
    {"--parallel", NULL, O_STRING, AT(parallel), CLI_EVAL, "N",
     "decode so many samples of a task or windows of ppl at once, at most 16 (default 1)"},
    {"--backend", NULL, O_STRING, AT(backend), CLI_ENGINE | CLI_FIT, "NAME",
     "auto, or one of `devices`"},
    {"--device", NULL, O_U32, AT(device), CLI_ENGINE | CLI_FIT, "N", "which device of the backend"},
    {"--threads", "-t", O_U32, AT(n_threads), CLI_ENGINE | CLI_DEVICES | CLI_FIT | CLI_PLAN, "N",
     "CPU threads (default: physical cores)"},
    {"--session", NULL, O_STRING, AT(session), SAMPLED, "FILE",
     "go on from this file where it is there, and keep the session in it"},
    {"--temp", NULL, O_FLOAT, AT(temp), SAMPLED, "T", "temperature, 0 is greedy (default 0.8)"},
    {"--top-k", NULL, O_U32, AT(top_k), SAMPLED, "N",
     "sample among the N likeliest, 0 is all (default 40)"},
    {"--top-p", NULL, O_FLOAT, AT(top_p), SAMPLED, "P",
     "sample among the likeliest with this mass (default 0.95)"},
    {"--min-p", NULL, O_FLOAT, AT(min_p), SAMPLED, "P",
     "at least this share of the best one's probability (default 0.05)"},
    {"--repeat-penalty", NULL, O_FLOAT, AT(repeat_penalty), SAMPLED, "F",
     "weaken recent tokens (default 1, off)"},
    {"--repeat-last-n", NULL, O_U32, AT(repeat_last), SAMPLED, "N", "how recent (default 64)"},
    {"--seed", NULL, O_U64, AT(seed), SAMPLED | CLI_EVAL, "N",
     "same seed, same text (default: random; eval: 1)"},
    {"--ignore-eos", NULL, O_FLAG, AT(ignore_eos), SAMPLED, NULL, "go on behind an end token"},
    {"--plain", NULL, O_FLAG, AT(plain), CLI_CHAT, NULL, "line by line, no full screen"},
    {"--theme", NULL, O_STRING, AT(theme), CLI_CHAT | CLI_TOP, "NAME|FILE",
     "colours of the full screen: dark, light, mono or a file (tui/theme.h)"},
    {"--ascii", NULL, O_FLAG, AT(ascii), CLI_CHAT | CLI_TOP, NULL,
     "draw the full screen with ASCII only"},
    {"--once", NULL, O_FLAG, AT(once), CLI_TOP, NULL, "print what there is now and end"},
    {"--csv", NULL, O_FLAG, AT(csv), CLI_TOP, NULL, "a line for each tailor every so often"},
    {"--delay", "-d", O_FLOAT, AT(delay), CLI_TOP, "SECONDS",
     "between two looks (default 0.5, --csv 1)"},
    {"--prometheus", NULL, O_U32, AT(prometheus), CLI_TOP, "PORT",
     "serve http://127.0.0.1:PORT/metrics"},
    {"--json", NULL, O_FLAG, AT(json),
     CLI_RUN | CLI_TOKENIZE | CLI_INFO | CLI_DEVICES | CLI_BENCH | CLI_EVAL | CLI_FIT | CLI_TOP |
         CLI_PLAN,
     NULL, "one JSON object on stdout"},
    {"--strict", NULL, O_FLAG, AT(strict),
     CLI_ENGINE | CLI_TOKENIZE | CLI_TEMPLATE | CLI_INFO | CLI_FIT | CLI_PLAN, NULL,
     "warnings are errors"},
};
#undef AT
enum { N_OPTIONS = sizeof options / sizeof options[0] };

static const struct option *find_option(const char *name, unsigned command) {
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const struct option *const o = &options[i];
        const bool named = strcmp(name, o->name) == 0 ||
                           (o->short_name != NULL && strcmp(name, o->short_name) == 0);
        if (named && (o->commands & command) != 0) {
            return o;
        }
    }
    return NULL;
}

static bool parse_u64(const char *text, uint64_t max, uint64_t *out) {
    char *end = NULL;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    const bool digits = text[0] >= '0' && text[0] <= '9';
    if (!digits || *end != '\0' || errno != 0 || value > max) {
        return false;
    }
    *out = value;
    return true;
}

static bool parse_float(const char *text, float *out) {
    char *end = NULL;
    const float value = strtof(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || value < 0) {
        return false;
    }
    *out = value;
    return true;
}

/* Stores one value; false where the text is none of the option's kind. */
static bool store(struct cli_args *args, const struct option *o, const char *text) {
    void *const field = (char *)args + o->off;
    uint64_t number = 0;
    switch (o->kind) {
    case O_FLAG:
        *(bool *)field = true;
        return true;
    case O_STRING:
        *(const char **)field = text;
        return true;
    case O_U32:
        if (!parse_u64(text, UINT32_MAX - 1, &number)) {
            return false;
        }
        *(uint32_t *)field = (uint32_t)number;
        return true;
    case O_U64:
        if (!parse_u64(text, UINT64_MAX, (uint64_t *)field)) {
            return false;
        }
        args->has_seed = true; /* the only one of its kind */
        return true;
    case O_FLOAT:
        return parse_float(text, field);
    }
    return false;
}

bool cli_parse(struct cli_args *out, unsigned command, int argc, char **argv) {
    struct cli_args args = {.command = command,
                            .n_predict = CLI_UNSET,
                            .n_prefill = CLI_UNSET,
                            .topk = CLI_UNSET,
                            .gauge = TL_GAUGE_EVERY,
                            .tau = 0.2f,
                            .miss = -1,
                            .temp = CLI_UNSET_FLOAT,
                            .top_k = CLI_UNSET,
                            .top_p = CLI_UNSET_FLOAT,
                            .min_p = CLI_UNSET_FLOAT,
                            .repeat_penalty = CLI_UNSET_FLOAT,
                            .repeat_last = CLI_UNSET};
    for (int i = 1; i < argc; i++) {
        if (command == CLI_TOP && argv[i][0] != '-' && args.pid == NULL) {
            args.pid = argv[i];
            continue;
        }
        /* Both `--ctx 4096` and `--ctx=4096`. */
        char name[32];
        const char *const equals = strncmp(argv[i], "--", 2) == 0 ? strchr(argv[i], '=') : NULL;
        const size_t n = equals != NULL ? (size_t)(equals - argv[i]) : strlen(argv[i]);
        snprintf(name, sizeof name, "%.*s", (int)tl_min_u64(n, sizeof name - 1), argv[i]);
        const struct option *const o = find_option(name, command);
        if (o == NULL) {
            const bool names_model = argv[i][0] != '-' && find_option("-m", command) != NULL;
            const char *const instead =
                names_model ? "a model is named by -m FILE" : cli_others_option(name);
            cli_error("%s: unknown option '%s' (%s%ssee tailor %s --help)", argv[0], argv[i],
                      instead != NULL ? instead : "", instead != NULL ? "; " : "", argv[0]);
            return false;
        }
        const char *text = equals != NULL ? equals + 1 : NULL;
        if (o->kind == O_FLAG && equals != NULL) {
            cli_error("%s: takes no value", o->name);
            return false;
        }
        if (o->kind != O_FLAG && text == NULL) {
            if (i + 1 >= argc) {
                cli_error("%s: a value is missing", o->name);
                return false;
            }
            text = argv[++i];
        }
        if (!store(&args, o, text)) {
            cli_error("%s: '%s' is not a valid number", o->name, text);
            return false;
        }
    }
    if (args.top_p > 1 || args.min_p > 1 || args.repeat_penalty == 0.0f) {
        cli_error("--top-p and --min-p lie between 0 and 1, --repeat-penalty above 0");
        return false;
    }
    *out = args;
    return true;
}

void cli_print_options(unsigned command) {
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const struct option *const o = &options[i];
        if ((o->commands & command) == 0) {
            continue;
        }
        char left[64];
        snprintf(left, sizeof left, "%s%s%s%s%s", o->short_name != NULL ? o->short_name : "",
                 o->short_name != NULL ? ", " : "    ", o->name, o->value != NULL ? " " : "",
                 o->value != NULL ? o->value : "");
        printf("  %-28s %s\n", left, o->help);
    }
}

int64_t cli_parse_list(const char *text, uint32_t *out, size_t cap) {
    int64_t n = 0;
    for (const char *c = text;;) {
        c += strspn(c, " ,\t\n\r");
        if (*c == '\0') {
            return n;
        }
        char *end = NULL;
        errno = 0;
        const unsigned long long value = strtoull(c, &end, 10);
        const bool digits = *c >= '0' && *c <= '9';
        if (!digits || errno != 0 || value >= UINT32_MAX || strchr(" ,\t\n\r", *end) == NULL) {
            return -1;
        }
        if (out != NULL) {
            if ((size_t)n >= cap) {
                return -1;
            }
            out[n] = (uint32_t)value;
        }
        n++;
        c = end;
    }
}

bool cli_parse_size(const char *text, uint64_t *bytes) {
    char *end = NULL;
    const double value = strtod(text, &end);
    static const char units[] = "kmgt";
    uint64_t unit = 1;
    if (end == text || !(value > 0)) {
        return false;
    }
    if (*end != '\0') {
        const char letter = (char)(*end | 0x20);
        const char *const at = strchr(units, letter);
        if (at == NULL) {
            return letter == 'b' && end[1] == '\0' && value < 1e18 &&
                   (*bytes = (uint64_t)value) > 0;
        }
        unit = 1ull << 10 * (at - units + 1);
        end++;
        end += *end == 'i' ? 1 : 0;
        end += *end == 'B' || *end == 'b' ? 1 : 0;
    }
    if (*end != '\0' || value * (double)unit > 1e18) {
        return false;
    }
    *bytes = (uint64_t)(value * (double)unit);
    return *bytes > 0;
}
