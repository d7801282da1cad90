/* Prompts go in one behind the other, then those runs that go on are decoded together; a batch is
 * made anew when one of them ends. */
#include "eval_runs.h"

struct together {
    struct cli_eval_run *runs[TL_BATCH_MAX];
    tl_session *sessions[TL_BATCH_MAX];
    uint32_t ids[TL_BATCH_MAX]; /* of the next step */
    uint32_t n;
    tl_batch *batch; /* owned; NULL: none of these n yet */
};

tl_err cli_eval_feed(struct cli_eval *e, tl_session *s, const uint32_t *ids, size_t n) {
    tl_session *const present = e->loaded.session;
    size_t done = 0;
    tl_session_rewind(s, 0);
    if (n == 0) {
        return TL_OK;
    }
    e->loaded.session = s;
    const tl_err err = cli_feed(&e->loaded, ids, n, NULL, NULL, &done);
    e->loaded.session = present;
    return err;
}

static tl_err step(struct together *t) {
    if (t->n == 1) {
        return tl_session_step(t->sessions[0], t->ids[0]);
    }
    if (t->batch == NULL) {
        TL_TRY(tl_batch_open(&t->batch, t->sessions, t->n));
    }
    return tl_batch_step(t->batch, t->ids);
}

/* Those that have a next token stay. */
static tl_err ask(struct together *t) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        struct cli_eval_run *const run = t->runs[i];
        bool more = true;
        TL_TRY(run->next(run->user, t->sessions[i], &t->ids[n], &more));
        run->done = !more;
        t->runs[n] = run;
        t->sessions[n] = t->sessions[i];
        n += more ? 1 : 0;
    }
    if (n < t->n) {
        tl_batch_close(&t->batch);
    }
    t->n = n;
    return TL_OK;
}

tl_err cli_eval_run_all(struct cli_eval *e, struct cli_eval_run *runs, uint32_t n) {
    struct together t = {.n = n};
    tl_err err = TL_OK;
    TL_ASSERT(n <= e->sequences.n);
    for (uint32_t i = 0; i < n && !err && !cli_interrupted(); i++) {
        t.runs[i] = &runs[i];
        t.sessions[i] = e->sequences.sessions[i];
        t.ids[i] = runs[i].ids[runs[i].n - 1];
        runs[i].done = false;
        err = cli_eval_feed(e, t.sessions[i], runs[i].ids, runs[i].n - 1);
    }
    while (t.n > 0 && !err && !cli_interrupted()) {
        err = step(&t);
        err = err ? err : ask(&t);
    }
    tl_batch_close(&t.batch);
    return err;
}
