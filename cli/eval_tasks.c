/* The generators. Each draws what is hidden first and the text around it second, so that a task of
 * another length hides the same things. What is asked for stands in the text literally; how many
 * strings, needles and words there are follows RULER's published settings, the wording is ours. */
#include "eval_tasks.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HIDDEN_MAX = 24, COMMON = 10, LABEL_MAX = 40 }; /* a label: a name or a value */
_Static_assert((int)LABEL_MAX >= (int)CLI_NAME_MAX, "names of the filler are labels");

/* What stands between the needles. */
typedef enum hay { HAY_PROSE, HAY_NOISE, HAY_NEEDLES } hay;

struct making;
struct cli_task_kind {
    const char *name;
    tl_err (*make)(struct making *m);
    uint32_t n_keys, n_values; /* needles: names, and values for each */
    uint32_t n_asked;          /* names asked for; vt: hops */
    hay hay;
    bool hex_keys, hex_values; /* of the form of a UUID; else two words, seven digits */
    bool copies;
    uint32_t n_units_min;
};

struct making {
    const cli_task_kind *kind;
    const struct cli_filler *filler;
    struct cli_task *out;
    struct cli_rng rng;
    uint64_t seed;
    double depth;
    uint32_t n_units;
};

struct needle {
    char text[128];
    double depth;
};

static tl_err add(tl_bytes *out, const char *fmt, ...) TL_PRINTF(2, 3);
static tl_err add(tl_bytes *out, const char *fmt, ...) {
    char text[1024];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    TL_ASSERT(n >= 0 && (size_t)n < sizeof text);
    return tl_bytes_add(out, text, (size_t)n);
}

static tl_err expect(struct cli_task *task, const char *text) {
    TL_TRY(tl_bytes_add(&task->expected, text, strlen(text) + 1));
    task->n_expected++;
    return TL_OK;
}

static double draw_depth(struct making *m) {
    return (double)(cli_rng_next(&m->rng) >> 11) / 9007199254740992.0; /* 2^53 */
}

/* A random UUID, version 4. */
static void draw_uuid(struct making *m, char *text) {
    const uint64_t a = cli_rng_next(&m->rng), b = cli_rng_next(&m->rng);
    snprintf(text, LABEL_MAX, "%08x-%04x-4%03x-%04x-%012llx", (unsigned)(a >> 32),
             (unsigned)(a >> 16 & 0xffff), (unsigned)(a & 0xfff),
             0x8000 | (unsigned)(b >> 48 & 0x3fff), (unsigned long long)(b & 0xffffffffffffu));
}

static void draw_value(struct making *m, char *text) {
    if (m->kind->hex_values) {
        draw_uuid(m, text);
    } else {
        snprintf(text, LABEL_MAX, "%u", 1000000 + (unsigned)(cli_rng_next(&m->rng) % 9000000));
    }
}

static void draw_key(struct making *m, uint32_t i, char *text) {
    if (m->kind->hex_keys) {
        draw_uuid(m, text);
    } else {
        cli_name_at(m->seed, i, text);
    }
}

/* The text with the needles (ordered by depth) between its sentences. */
static tl_err add_hay(struct making *m, const struct needle *needles, uint32_t n) {
    tl_bytes *const out = &m->out->input;
    uint32_t put = 0;
    for (uint32_t i = 0; i <= m->n_units; i++) {
        while (put < n && (i == m->n_units || needles[put].depth * m->n_units < i + 1)) {
            TL_TRY(add(out, "%s%s", i + put > 0 ? " " : "", needles[put].text));
            put++;
        }
        if (i < m->n_units) {
            const tl_str s = m->kind->hay == HAY_NOISE ? cli_noise_sentence(i)
                                                       : cli_filler_sentence(m->filler, m->seed, i);
            TL_TRY(i + put > 0 ? tl_bytes_add(out, " ", 1) : TL_OK);
            TL_TRY(tl_bytes_add(out, s.data, s.len));
        }
    }
    return TL_OK;
}

static int by_depth(const void *a, const void *b) {
    const double x = ((const struct needle *)a)->depth, y = ((const struct needle *)b)->depth;
    return (x > y) - (x < y);
}

/* "a", "a and b", "a, b and c" */
static void join_names(char (*names)[LABEL_MAX], uint32_t n, char *text, size_t cap) {
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < n; i++) {
        const char *const between = i == 0 ? "" : i + 1 == n ? " and " : ", ";
        at += (size_t)snprintf(text + at, cap - at, "%s%s", between, names[i]);
    }
}

/* ---- needles ---- */

/* Of n_units things in a row the one at m->depth. */
static uint32_t asked_unit(const struct making *m) {
    return (uint32_t)tl_min_u64((uint64_t)(m->depth * m->n_units), m->n_units - 1);
}

/* Needle haystacks: every sentence is one, for another name. *name and *value are those asked for.
 */
static tl_err add_needles_only(struct making *m, const char *what, char *name, char *value) {
    for (uint32_t i = 0; i < m->n_units; i++) {
        char key[LABEL_MAX], v[LABEL_MAX];
        draw_key(m, i, key);
        draw_value(m, v);
        if (i == asked_unit(m)) {
            memcpy(name, key, sizeof key);
            memcpy(value, v, sizeof v);
        }
        TL_TRY(add(&m->out->input, "%sOne of the magic %ss of %s is %s.", i > 0 ? " " : "", what,
                   key, v));
    }
    return TL_OK;
}

/* Names with their values, hidden in prose; what is asked for is expected. */
static tl_err add_needles(struct making *m, const char *what, char (*names)[LABEL_MAX]) {
    const cli_task_kind *const kind = m->kind;
    struct needle needles[HIDDEN_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < kind->n_keys; i++) {
        draw_key(m, i, names[i]);
        for (uint32_t j = 0; j < kind->n_values; j++, n++) {
            char value[LABEL_MAX];
            draw_value(m, value);
            snprintf(needles[n].text, sizeof needles[n].text, "One of the magic %ss of %s is %s.",
                     what, names[i], value);
            needles[n].depth = draw_depth(m);
            TL_TRY(i < kind->n_asked ? expect(m->out, value) : TL_OK);
        }
    }
    if (m->out->n_expected == 1) {
        needles[0].depth = m->depth;
    }
    qsort(needles, n, sizeof *needles, by_depth);
    return add_hay(m, needles, n);
}

static tl_err make_niah(struct making *m) {
    const cli_task_kind *const kind = m->kind;
    const char *const what = kind->hex_values ? "id" : "number";
    char names[HIDDEN_MAX][LABEL_MAX], asked[256], value[LABEL_MAX] = "";
    tl_bytes *const out = &m->out->input;
    TL_TRY(add(out,
               "The following text mentions magic %ss here and there. Remember them, there will "
               "be a question about them at the end.\n",
               what));
    if (kind->hay == HAY_NEEDLES) {
        TL_TRY(add_needles_only(m, what, names[0], value));
        TL_TRY(expect(m->out, value));
    } else {
        TL_TRY(add_needles(m, what, names));
    }
    join_names(names, kind->n_asked, asked, sizeof asked);
    if (m->out->n_expected == 1) {
        TL_TRY(add(out, "\nWhich magic %s of %s does the text mention?", what, asked));
        return add(&m->out->start, "The magic %s of %s in the text is", what, asked);
    }
    TL_TRY(
        add(out, "\nWhich magic %ss of %s does the text mention? Name all of them.", what, asked));
    return add(&m->out->start, "The magic %ss of %s in the text are", what, asked);
}

/* The question repeats the words before the answer. */
static tl_err make_copy(struct making *m) {
    struct needle needles[HIDDEN_MAX];
    char name[LABEL_MAX], value[LABEL_MAX];
    for (uint32_t i = 0; i < m->kind->n_keys; i++) {
        draw_key(m, i, name);
        draw_value(m, value);
        snprintf(needles[i].text, sizeof needles[i].text, "The code for %s is %s.", name, value);
        needles[i].depth = i == 0 ? m->depth : draw_depth(m);
        if (i == 0) {
            TL_TRY(expect(m->out, value));
            TL_TRY(add(&m->out->start, "The code for %s is", name));
        }
    }
    qsort(needles, m->kind->n_keys, sizeof *needles, by_depth);
    TL_TRY(add_hay(m, needles, m->kind->n_keys));
    return add(&m->out->input, "\nWhich code is it?");
}

/* ---- tracking ---- */

/* Five letters, none of the n before it. */
static void draw_variable(struct making *m, char (*names)[6], uint32_t n) {
    for (bool fresh = false; !fresh;) {
        for (size_t i = 0; i < 5; i++) {
            names[n][i] = (char)('A' + cli_rng_below(&m->rng, 26));
        }
        names[n][5] = '\0';
        fresh = true;
        for (uint32_t i = 0; i < n; i++) {
            fresh = fresh && strcmp(names[i], names[n]) != 0;
        }
    }
}

static tl_err make_tracking(struct making *m) {
    const uint32_t n = m->kind->n_asked + 1;
    char names[8][6];
    struct needle needles[8] = {0};
    const unsigned value = 10000 + (unsigned)cli_rng_below(&m->rng, 90000);
    for (uint32_t i = 0; i < n; i++) {
        draw_variable(m, names, i);
        needles[i].depth = draw_depth(m);
        TL_TRY(expect(m->out, names[i]));
    }
    qsort(needles, n, sizeof *needles, by_depth); /* only depths so far: the chain is in order */
    for (uint32_t i = 0; i < n; i++) {
        if (i == 0) {
            snprintf(needles[i].text, sizeof needles[i].text, "VAR %s = %u.", names[i], value);
        } else {
            snprintf(needles[i].text, sizeof needles[i].text, "VAR %s = VAR %s.", names[i],
                     names[i - 1]);
        }
    }
    tl_bytes *const out = &m->out->input;
    TL_TRY(add(out,
               "The following text assigns values to variables, some of them from one another. "
               "Keep track of the assignments.\n"));
    TL_TRY(add_hay(m, needles, n));
    TL_TRY(add(out, "\nWhich variables have the value %u? Find all of them.", value));
    return add(&m->out->start, "By the assignments in the text, %u variables have the value %u:", n,
               value);
}

/* ---- counting ---- */

/* counts[i] times the word i, in random order, handed to add_word. */
static tl_err add_shuffled(struct making *m, const uint32_t *counts, uint32_t n_words,
                           tl_err (*add_word)(struct making *m, uint32_t at, uint32_t word)) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < n_words; i++) {
        n += counts[i];
    }
    uint32_t *const list = calloc(n + 1, sizeof *list);
    if (list == NULL) {
        return TL_ERR_MEMORY;
    }
    for (uint32_t i = 0, at = 0; i < n_words; i++) {
        for (uint32_t j = 0; j < counts[i]; j++) {
            list[at++] = i;
        }
    }
    tl_err err = TL_OK;
    for (uint32_t i = 0; i < n && !err; i++) {
        const uint64_t other = i + cli_rng_below(&m->rng, n - i);
        const uint32_t word = list[other];
        list[other] = list[i];
        err = add_word(m, i, word);
    }
    free(list);
    return err;
}

static tl_err add_numbered(struct making *m, uint32_t at, uint32_t word) {
    char name[LABEL_MAX];
    cli_name_at(m->seed, word, name);
    return add(&m->out->input, "%s%u. %s", at > 0 ? " " : "", at + 1, name);
}

/* Ten words thirty times and all others three times; in short lists six times and once. */
static tl_err make_common(struct making *m) {
    const bool is_short = m->n_units < 60 * COMMON;
    const uint32_t often = is_short ? 6 : 30, seldom = is_short ? 1 : 3;
    const uint32_t n_words = COMMON + (m->n_units - COMMON * often) / seldom;
    uint32_t *const counts = calloc(n_words, sizeof *counts);
    if (counts == NULL) {
        return TL_ERR_MEMORY;
    }
    for (uint32_t i = 0; i < n_words; i++) {
        counts[i] = i < COMMON ? often : seldom;
    }
    tl_err err =
        add(&m->out->input, "The following is a numbered list of words. Some of them appear "
                            "more often than the others; remember those.\n");
    for (uint32_t i = 0; i < COMMON && !err; i++) {
        char name[LABEL_MAX];
        cli_name_at(m->seed, i, name);
        err = expect(m->out, name);
    }
    if (!err) {
        err = add_shuffled(m, counts, n_words, add_numbered);
    }
    free(counts);
    TL_TRY(err);
    TL_TRY(add(&m->out->input, "\nWhich %d words of the list are the most common?", COMMON));
    return add(&m->out->start, "The %d most common words of the list are:", COMMON);
}

enum { CODED_MAX = 2000, CODED_ASKED = 3 };

/* Coded word i of the seed: six letters. Two of a seed are equal in one of 3e8 pairs, and the asked
 * ones are kept apart from all others by their first letter. */
static void coded_word(uint64_t seed, uint32_t i, char *text) {
    struct cli_rng rng = {seed + 0x100000 * (uint64_t)i};
    const uint64_t first = cli_rng_below(&rng, 26);
    struct cli_rng common = {seed};
    const uint64_t shift = cli_rng_below(&common, 26);
    for (size_t k = 0; k < 6; k++) {
        text[k] = (char)('a' + cli_rng_below(&rng, 26));
    }
    const uint64_t letter = i <= CODED_ASKED ? i : CODED_ASKED + 1 + first % (25 - CODED_ASKED);
    text[0] = (char)('a' + (letter + shift) % 26);
    text[6] = '\0';
}

static tl_err add_coded(struct making *m, uint32_t at, uint32_t word) {
    char text[8] = "...";
    if (word > 0) { /* the most frequent "word" is none */
        coded_word(m->seed, word, text);
    }
    return add(&m->out->input, "%s%s", at > 0 ? " " : "", text);
}

/* Frequencies fall with the square of the rank (Zipf's law with exponent 2). */
static tl_err make_frequent(struct making *m) {
    const double zeta = 1.6449340668482264; /* of 2 */
    uint32_t counts[CODED_MAX], n_words = 0;
    for (; n_words < CODED_MAX; n_words++) {
        const double rank = n_words + 1;
        counts[n_words] = (uint32_t)floor(m->n_units / (rank * rank * zeta));
        if (counts[n_words] == 0) {
            break;
        }
    }
    for (uint32_t i = 1; i <= CODED_ASKED; i++) {
        char text[8];
        coded_word(m->seed, i, text);
        TL_TRY(expect(m->out, text));
    }
    TL_TRY(add(&m->out->input,
               "The following text is made of code words and dots. Keep track of how "
               "often each code word appears.\n"));
    TL_TRY(add_shuffled(m, counts, n_words, add_coded));
    TL_TRY(add(&m->out->input,
               "\nDots aside, which three code words appear most often in the text? "
               "Do not explain anything."));
    return add(&m->out->start, "The three code words that appear most often are:");
}

/* ---- key and value ---- */

static tl_err make_key_value(struct making *m) {
    tl_bytes *const out = &m->out->input;
    char key[LABEL_MAX], value[LABEL_MAX], asked_key[LABEL_MAX] = "";
    TL_TRY(add(out,
               "The following is a JSON object. Find the value of the key that is named behind "
               "it.\n"));
    for (uint32_t i = 0; i < m->n_units; i++) {
        draw_uuid(m, key);
        draw_uuid(m, value);
        TL_TRY(add(out, "%s\"%s\": \"%s\"", i > 0 ? ",\n " : "{", key, value));
        if (i == asked_unit(m)) {
            memcpy(asked_key, key, sizeof asked_key);
            TL_TRY(expect(m->out, value));
        }
    }
    TL_TRY(add(out, "}\nKey: \"%s\"", asked_key));
    return add(&m->out->start, "Value:");
}

static const cli_task_kind kinds[] = {
    {"niah_single1", make_niah, 1, 1, 1, HAY_NOISE, false, false, false, 0},
    {"niah_single2", make_niah, 1, 1, 1, HAY_PROSE, false, false, false, 0},
    {"niah_single", make_niah, 1, 1, 1, HAY_PROSE, false, false, false, 0}, /* another name of it */
    {"niah_single3", make_niah, 1, 1, 1, HAY_PROSE, false, true, false, 0},
    {"niah_multikey1", make_niah, 4, 1, 1, HAY_PROSE, false, false, false, 0},
    {"niah_multikey2", make_niah, 0, 0, 1, HAY_NEEDLES, false, false, false, 1},
    {"niah_multikey3", make_niah, 0, 0, 1, HAY_NEEDLES, true, true, false, 1},
    {"niah_multivalue", make_niah, 1, 4, 1, HAY_PROSE, false, false, false, 0},
    {"niah_multiquery", make_niah, 4, 1, 4, HAY_PROSE, false, false, false, 0},
    {"vt", make_tracking, 0, 0, 4, HAY_NOISE, false, false, false, 0},
    {"vt2", make_tracking, 0, 0, 2, HAY_NOISE, false, false, false, 0},
    {"vt3", make_tracking, 0, 0, 3, HAY_NOISE, false, false, false, 0},
    {"vt4", make_tracking, 0, 0, 4, HAY_NOISE, false, false, false, 0}, /* another name of vt */
    {"cwe", make_common, 0, 0, 0, HAY_NOISE, false, false, false, 7 * COMMON},
    {"fwe", make_frequent, 0, 0, 0, HAY_NOISE, false, false, false, 160},
    {"kv", make_key_value, 0, 0, 1, HAY_NOISE, true, true, false, 1},
    {"copy_one", make_copy, 1, 1, 1, HAY_PROSE, false, false, true, 0},
    {"copy_many", make_copy, HIDDEN_MAX, 1, 1, HAY_PROSE, false, false, true, 0},
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

const cli_task_kind *cli_task_kind_find(const char *name) {
    for (size_t i = 0; i < N_KINDS; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            return &kinds[i];
        }
    }
    return NULL;
}

const char *cli_task_kind_name(size_t i) { return i < N_KINDS ? kinds[i].name : NULL; }
bool cli_task_kind_copies(const cli_task_kind *kind) { return kind->copies; }

void cli_task_free(struct cli_task *task) {
    tl_bytes_free(&task->name);
    tl_bytes_free(&task->input);
    tl_bytes_free(&task->start);
    tl_bytes_free(&task->expected);
    *task = (struct cli_task){0};
}

const char *cli_task_expected(const struct cli_task *task, uint32_t i) {
    const char *text = task->expected.data;
    for (; i > 0; i--) {
        text += strlen(text) + 1;
    }
    return text;
}

static bool holds(tl_str text, const char *part) {
    const size_t n = strlen(part);
    for (size_t i = 0; n <= text.len && i <= text.len - n; i++) {
        size_t same = 0;
        while (same < n &&
               tolower((unsigned char)text.data[i + same]) == tolower((unsigned char)part[same])) {
            same++;
        }
        if (same == n) {
            return true;
        }
    }
    return false;
}

double cli_task_score(const struct cli_task *task, tl_str answer) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < task->n_expected; i++) {
        n += holds(answer, cli_task_expected(task, i)) ? 1 : 0;
    }
    if (task->any) {
        return n > 0 ? 1 : 0;
    }
    return task->n_expected > 0 ? (double)n / task->n_expected : 0;
}

tl_err cli_task_make(struct cli_task *out, const struct cli_task_params *params) {
    struct cli_task task = {0};
    struct making m = {.kind = params->kind,
                       .filler = params->filler,
                       .out = &task,
                       .rng = {params->seed ^ 0x5eed},
                       .seed = params->seed,
                       .depth = params->depth,
                       .n_units = params->n_units};
    TL_ASSERT(m.n_units >= m.kind->n_units_min && m.depth >= 0 && m.depth <= 1);
    tl_err err = tl_bytes_add_str(&task.name, m.kind->name);
    if (!err) {
        err = m.kind->make(&m);
    }
    if (err) {
        cli_task_free(&task);
        return err;
    }
    *out = task;
    return TL_OK;
}

/* Whether n_units fit; the task is *out then. */
static tl_err try_units(struct cli_task *out, struct cli_task_params *params, uint32_t n_units,
                        const struct cli_task_fit *fit, bool *fits) {
    struct cli_task task = {0};
    uint64_t n = 0;
    struct cli_task_params tried = *params;
    tried.n_units = n_units;
    TL_TRY(cli_task_make(&task, &tried));
    const tl_err err = fit->size(fit->user, &task, &n);
    *fits = !err && n <= fit->n_max;
    if (*fits) {
        cli_task_free(out);
        *out = task;
        params->n_units = n_units;
    } else {
        cli_task_free(&task);
    }
    return err;
}

tl_err cli_task_make_fit(struct cli_task *out, struct cli_task_params *params,
                         const struct cli_task_fit *fit) {
    enum { UNITS_MAX = 1 << 24 };
    struct cli_task task = {0};
    uint32_t most = params->kind->n_units_min; /* that fit */
    bool fits = false;
    TL_TRY(try_units(&task, params, most, fit, &fits));
    if (!fits) {
        return TL_ERR_UNSUPPORTED;
    }
    tl_err err = TL_OK;
    uint32_t least = most; /* that do not */
    while (!err && fits && least < UNITS_MAX) {
        most = least;
        least = 2 * least + 16;
        err = try_units(&task, params, least, fit, &fits);
    }
    while (!err && least - most > 1) {
        const uint32_t middle = most + (least - most) / 2;
        err = try_units(&task, params, middle, fit, &fits);
        most = fits ? middle : most;
        least = fits ? least : middle;
    }
    if (err) {
        cli_task_free(&task);
        return err;
    }
    *out = task;
    return TL_OK;
}

/* outputs, or the one `answer`. */
static tl_err read_outputs(struct cli_task *task, const json_t *object) {
    const json_t *const outputs = json_object_get(object, "outputs");
    const json_t *const answer = json_object_get(object, "answer");
    const size_t n = outputs != NULL ? json_array_size(outputs) : 1;
    for (size_t i = 0; i < n; i++) {
        const char *const text =
            json_string_value(outputs != NULL ? json_array_get(outputs, i) : answer);
        if (text == NULL || *text == '\0') {
            return TL_ERR_FORMAT;
        }
        TL_TRY(expect(task, text));
    }
    return n > 0 ? TL_OK : TL_ERR_FORMAT;
}

static tl_err read_fields(struct cli_task *task, const json_t *object, const char *file_name) {
    const json_t *const name = json_object_get(object, "task");
    const json_t *const input = json_object_get(object, "input");
    const json_t *const start = json_object_get(object, "answer_prefix");
    const json_t *const match = json_object_get(object, "match");
    if ((name != NULL ? !json_is_string(name) : file_name == NULL) || !json_is_string(input) ||
        (match != NULL && !json_is_string(match)) || (start != NULL && !json_is_string(start))) {
        return TL_ERR_FORMAT;
    }
    const char *const how = match != NULL ? json_string_value(match) : "all";
    task->any = strcmp(how, "any") == 0;
    if (!task->any && strcmp(how, "all") != 0) {
        return TL_ERR_FORMAT;
    }
    TL_TRY(tl_bytes_add_str(&task->name, name != NULL ? json_string_value(name) : file_name));
    TL_TRY(start != NULL ? tl_bytes_add_str(&task->start, json_string_value(start)) : TL_OK);
    TL_TRY(tl_bytes_add(&task->input, json_string_value(input), json_string_length(input)));
    return read_outputs(task, object);
}

tl_err cli_task_read(struct cli_task *out, const json_t *object, const char *file_name) {
    struct cli_task task = {0};
    const tl_err err = read_fields(&task, object, file_name);
    if (err) {
        cli_task_free(&task);
        return err;
    }
    *out = task;
    return TL_OK;
}
