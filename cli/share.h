/* A running command shows what it does to whoever looks: `tailor top` from another terminal, and
 * the dashboard of the same process. A page of core/stats.h in a file of shared memory,
 * $XDG_RUNTIME_DIR/tailor/PID or /dev/shm/tailor-UID/PID, readable by the same user only. */
#ifndef TL_CLI_SHARE_H
#define TL_CLI_SHARE_H

#include "core/stats.h"

struct cli_share {
    struct tl_stats now; /* of the thread that steps */
    tl_stats_page *page; /* what others read */
    int fd;              /* locked while the process lives; -1: memory of this process only */
    char path[256];
    struct {
        uint64_t begin_ns; /* 0: none is open */
        double first_s;    /* until its first token; 0: there is none yet */
        uint64_t n_tokens; /* of the answer, counted already */
    } request;
};

/* Never fails: without shared memory nobody else can look, and *out is NULL only when memory is
 * out. */
void cli_share_open(struct cli_share **out, const char *command);
void cli_share_close(struct cli_share **share);

/* What happened; share may be NULL. A prompt and the loading of weights begin with done == 0. */
void cli_share_load(struct cli_share *share, uint64_t done_bytes, uint64_t bytes);
void cli_share_session(struct cli_share *share, const tl_engine *e, const tl_session *s,
                       const char *kv);
void cli_share_prompt(struct cli_share *share, size_t done, size_t total);
void cli_share_prompt_end(struct cli_share *share, const tl_engine *e, const tl_session *s);
void cli_share_step(struct cli_share *share, const tl_engine *e, tl_session *s, uint64_t step_ns,
                    uint64_t sample_ns);
/* An answer of n tokens is over, and with it the request that began with its prompt. */
void cli_share_answer_end(struct cli_share *share, tl_finish how, size_t n_tokens);

/* The folder; false where there is none and none can be made. */
bool cli_share_folder(char *path, size_t cap);
/* The page that process `pid` shows, or NULL: no such process (what it left is removed),
 * or none that can be read. Unmap with cli_share_unmap. */
tl_stats_page *cli_share_map(uint64_t pid);
void cli_share_unmap(tl_stats_page *page);
/* True while the process that owns the file lives. */
bool cli_share_lives(uint64_t pid);

#endif
