/* Finding the tailors that run: the folder of their pages, by number. A page of a process that died
 * is removed by whoever sees it first; what it showed last stays with those who had it mapped. */
#include "top.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

tl_err top_open(struct top *top, uint64_t only) {
    *top = (struct top){.only = only};
    top->ones = calloc(TOP_MAX, sizeof *top->ones);
    return top->ones != NULL ? TL_OK : TL_ERR_MEMORY;
}

static void drop(struct top *top, size_t i) {
    cli_share_unmap(top->ones[i].page);
    memmove(&top->ones[i], &top->ones[i + 1], (top->n - i - 1) * sizeof *top->ones);
    top->n--;
}

void top_close(struct top *top) {
    while (top->n > 0) {
        drop(top, top->n - 1);
    }
    free(top->ones);
    *top = (struct top){0};
}

static bool knows(const struct top *top, uint64_t pid) {
    for (size_t i = 0; i < top->n; i++) {
        if (top->ones[i].pid == pid && !top->ones[i].ended) {
            return true;
        }
    }
    return false;
}

static void take(struct top *top, uint64_t pid) {
    tl_stats_page *const page = top->n < TOP_MAX && !knows(top, pid) ? cli_share_map(pid) : NULL;
    if (page != NULL) {
        top->ones[top->n++] = (struct top_one){.pid = pid, .page = page};
    }
}

static void take_new(struct top *top) {
    char folder[256];
    if (top->only != 0) {
        take(top, top->only);
        return;
    }
    DIR *const dir = cli_share_folder(folder, sizeof folder) ? opendir(folder) : NULL;
    for (const struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        char *end = NULL;
        const unsigned long long pid = strtoull(e->d_name, &end, 10);
        if (pid > 0 && *end == '\0') {
            take(top, pid);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

void top_refresh(struct top *top, bool keep_dead) {
    take_new(top);
    for (size_t i = top->n; i > 0; i--) {
        struct top_one *const one = &top->ones[i - 1];
        const bool lives = !one->ended && cli_share_lives(one->pid);
        struct tl_stats now;
        if (!one->ended && tl_stats_read(one->page, &now, NULL)) {
            one->stats = now;
            one->known = true;
        }
        one->ended = !lives;
        if (!lives && (!keep_dead || !one->known)) {
            drop(top, i - 1);
        }
    }
}
