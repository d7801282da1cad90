/* The door to the template interpreter: sets its bounds, runs its passes, hands the text out and
 * says once what went wrong. The bounds grow with what the caller gave (a long document is no
 * attack), never with anything a template can compute. */
#include "template.h"

#include "jinja.h"

#include <string.h>

/* What a template may use before it has done anything for its input, and for each byte of it.
 * Measured: of 88 published templates over conversations with tools none took more than 8000 steps
 * and 1 MiB; a hostile one that uses all steps ends within about a second. */
enum {
    STEPS = 4000000,
    STEPS_PER_BYTE = 32,
    MEMORY_BYTES = 64 << 20,
    MEMORY_PER_BYTE = 32,
    OUTPUT_BYTES = 16 << 20,
    OUTPUT_PER_BYTE = 8,
};

static void set_bounds(tl_jinja *j, size_t source_len) {
    const size_t n = (size_t)tl_min_u64(j->n_in + source_len, SIZE_MAX / 64);
    j->n_steps_max = j->n_steps + STEPS + (uint64_t)n * STEPS_PER_BYTE;
    j->n_bytes_max = j->n_bytes + MEMORY_BYTES + n * MEMORY_PER_BYTE;
    j->n_out_max = OUTPUT_BYTES + n * OUTPUT_PER_BYTE;
}

static tl_err render(tl_jinja *j, tl_str source, const json_t *vars, tl_jbuf *text) {
    tl_jtoken *tokens = NULL;
    tl_jnode *root = NULL;
    tl_jval given;
    TL_TRY(tl_jval_from_json(j, vars, &given));
    set_bounds(j, source.len);
    j->vars = given.as.dict;
    j->out = text;
    TL_TRY(tl_jinja_lex(j, source, &tokens));
    TL_TRY(tl_jinja_parse(j, tokens, &root));
    TL_TRY(tl_jinja_resolve(j, root));
    return tl_jinja_run(j, root);
}

tl_err tl_template_render(tl_str source, const json_t *vars, const char *date, tl_bytes *out,
                          const tl_log *log) {
    TL_ASSERT(json_is_object(vars));
    /* Until the input is converted its size is the bound: it is in memory already. */
    tl_jinja j = {.n_bytes_max = SIZE_MAX / 2, .n_steps_max = UINT64_MAX, .date = date};
    tl_jbuf text = {.j = &j};
    const locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (plain == (locale_t)0) {
        return tl_fail(log, TL_ERR_MEMORY, "chat template: no memory");
    }
    const locale_t outside = uselocale(plain); /* of this thread; numbers and dates depend on it */
    tl_err err = render(&j, source, vars, &text);
    (void)uselocale(outside);
    freelocale(plain);
    if (j.utf8 != (locale_t)0) {
        freelocale(j.utf8);
    }
    if (err) {
        (void)tl_fail(log, err, "%s", j.sentence[0] != '\0' ? j.sentence : "out of memory");
    } else {
        err = tl_bytes_add(out, text.len > 0 ? text.data : "", text.len);
    }
    tl_jinja_free_arena(&j);
    return err;
}
