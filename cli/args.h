/* Command lines: one table of options, read into one plain struct. A wrong one is a sentence on
 * stderr and exit 2, decided here. */
#ifndef TL_CLI_ARGS_H
#define TL_CLI_ARGS_H

#include "core/base.h"

/* Which commands take an option. */
enum cli_command_bit {
    CLI_CHAT = 1,
    CLI_RUN = 2,
    CLI_TOKENIZE = 4,
    CLI_TEMPLATE = 8,
    CLI_INFO = 16,
    CLI_DEVICES = 32,
    CLI_BENCH = 64,
    CLI_EVAL = 512,
    CLI_FIT = 1024,
    CLI_TOP = 2048,
    CLI_PLAN = 4096,
    CLI_ENGINE = CLI_CHAT | CLI_RUN | CLI_BENCH | CLI_EVAL, /* those that load a model to run it */
};

#define CLI_UNSET UINT32_MAX
#define CLI_UNSET_FLOAT (-1.0f)

struct cli_args {
    unsigned command; /* one cli_command_bit */
    /* Strings are borrowed from argv; NULL where not given. */
    const char *model, *prompt, *file, *ids, *logits, *decode, *template_file, *messages, *date;
    const char *system, *backend, *kv, *kv_set, *window, *depth;
    const char *device_mem, *host_mem;            /* sizes: see cli_parse_size */
    const char *tasks, *tasks_file, *ctxs, *text; /* eval */
    const char *plot;                             /* eval, fit */
    const char *output;                           /* fit */
    const char *theme;                            /* chat, top */
    const char *pid;                              /* top: the word that is no option */
    float delay;                                  /* top: seconds; 0: the default */
    uint32_t prometheus;                          /* top: a port; 0: none */
    const char *gpu, *weights;                    /* plan */
    float miss;                                   /* plan; below 0: the command's default */
    uint32_t n_samples;                           /* eval; 0: the command's default */
    const char *parallel;                         /* bench: a list; eval: a number */
    uint32_t n_sessions; /* that are opened at once, no option: commands say it; 0: one */
    uint32_t n_ctx, n_threads, device;
    uint32_t topk;       /* CLI_UNSET: the preset's */
    uint32_t n_predict;  /* CLI_UNSET: until the end, or the command's default */
    uint32_t n_prefill;  /* CLI_UNSET: all, or the command's default */
    uint32_t gauge;      /* steps between looks; 0: none */
    float tau;           /* score from which a layer is dense */
    const char *session; /* the file that a session is kept in */
    float temp, top_p, min_p, repeat_penalty; /* CLI_UNSET_FLOAT: not given */
    uint32_t top_k, repeat_last;              /* CLI_UNSET: not given */
    uint64_t seed;
    bool has_seed, json, strict, plain, ascii, once, csv, bos, special, lines0, ignore_eos,
        generation_prompt, raw;
    bool schedule;                 /* plan */
    bool books_per_model, indexes; /* fit */
};

/* argv[0] is the command's name. Returns false after saying what is wrong (exit 2). */
bool cli_parse(struct cli_args *out, unsigned command, int argc, char **argv);

/* The options of one command, a line each, to stdout. */
void cli_print_options(unsigned command);

/* "1, 2,3" or "1 2 3" into at most cap numbers; returns how many, or -1 where the text is not such
 * a list. With out == NULL it only counts. */
int64_t cli_parse_list(const char *text, uint32_t *out, size_t cap);

/* "6GiB", "512M", "1.5g", "4096": bytes, K/M/G/T in powers of 1024. False where it is no size. */
bool cli_parse_size(const char *text, uint64_t *bytes);

#endif
