/* What `tailor top` knows: the tailors that run, their snapshots, and how to write these down. */
#ifndef TL_CLI_TOP_H
#define TL_CLI_TOP_H

#include "args.h"
#include "share.h"

#include <jansson.h>

enum { TOP_MAX = 64 }; /* tailors at a time; further ones are counted and not shown */

struct top_one {
    uint64_t pid;
    tl_stats_page *page;   /* owned mapping */
    struct tl_stats stats; /* read last */
    bool known;            /* stats holds something */
    bool ended;            /* the process is gone; stats are its last */
};

struct top {
    struct top_one *ones; /* owned, TOP_MAX */
    size_t n;
    uint64_t only; /* watch this process alone; 0: all there are */
};

TL_MUST tl_err top_open(struct top *top, uint64_t only);
void top_close(struct top *top);
/* Looks again: new ones come, dead ones are marked `ended` (or left out, where keep_dead is false),
 * snapshots are read. */
void top_refresh(struct top *top, bool keep_dead);

/* A snapshot as an object; unknown numbers are null. NULL: out of memory. */
json_t *top_json(const struct tl_stats *s);
/* The column names, and one line of values, with newlines. */
extern const char top_csv_head[];
TL_MUST tl_err top_csv_line(const struct tl_stats *s, tl_bytes *out);
/* Tokens a second of the newest prompt; NaN: none yet. */
double top_prompt_rate(const struct tl_stats *s);
/* All of them in the text format of Prometheus. */
TL_MUST tl_err top_prometheus(const struct top *top, tl_bytes *out);

/* Serves http://127.0.0.1:PORT/metrics until interrupted. Returns an exit code. */
int top_serve(struct top *top, uint32_t port);
/* The full screen. Returns an exit code. */
int top_screen(struct top *top, const struct cli_args *args);

#endif
