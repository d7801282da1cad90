/* The files of shared memory. An exclusive lock on the file is the sign of life: it goes with its
 * process however that ends, where a process number may come again. */
#include "share.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

bool cli_share_folder(char *path, size_t cap) {
    const char *const runtime = getenv("XDG_RUNTIME_DIR");
    int n = runtime != NULL && *runtime == '/' && access(runtime, W_OK) == 0
                ? snprintf(path, cap, "%s/tailor", runtime)
                : snprintf(path, cap, "/dev/shm/tailor-%u", (unsigned)getuid());
    struct stat st;
    if (n <= 0 || (size_t)n >= cap || (mkdir(path, 0700) != 0 && errno != EEXIST)) {
        return false;
    }
    /* Somebody else's folder of this name is no place to trust. */
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == getuid() &&
           (st.st_mode & 077) == 0;
}

static bool path_of(uint64_t pid, char *path, size_t cap) {
    char folder[200];
    const bool there = cli_share_folder(folder, sizeof folder);
    return there && (size_t)snprintf(path, cap, "%s/%llu", folder, (unsigned long long)pid) < cap;
}

static bool lock(int fd, short type) {
    struct flock whole = {.l_type = type, .l_whence = SEEK_SET};
    return fcntl(fd, F_SETLK, &whole) == 0;
}

/* What processes left that ended without a chance to tidy up. */
static void sweep(const char *folder) {
    DIR *const dir = opendir(folder);
    for (const struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        const unsigned long long pid = strtoull(entry->d_name, NULL, 10);
        if (pid != 0 && pid != (unsigned long long)getpid()) {
            cli_share_unmap(cli_share_map(pid));
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

/* The file gets its name when it is locked and whole: nobody takes it for a dead one. */
static tl_stats_page *open_page(struct cli_share *share) {
    char young[280], folder[200];
    if (!path_of((uint64_t)getpid(), share->path, sizeof share->path) ||
        !cli_share_folder(folder, sizeof folder)) {
        return NULL;
    }
    sweep(folder);
    snprintf(young, sizeof young, "%s.new", share->path);
    unlink(young);
    share->fd = open(young, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    void *page = MAP_FAILED;
    if (share->fd >= 0 && lock(share->fd, F_WRLCK) &&
        ftruncate(share->fd, (off_t)tl_stats_page_bytes()) == 0 &&
        rename(young, share->path) == 0) {
        page = mmap(NULL, tl_stats_page_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, share->fd, 0);
    }
    if (page == MAP_FAILED && share->fd >= 0) {
        close(share->fd);
        unlink(young);
        unlink(share->path);
        share->fd = -1;
    }
    return page != MAP_FAILED ? page : NULL;
}

void cli_share_open(struct cli_share **out, const char *command) {
    struct cli_share *const share = calloc(1, sizeof *share);
    *out = share;
    if (share == NULL) {
        return;
    }
    share->fd = -1;
    share->page = open_page(share);
    if (share->page == NULL) {
        share->page = calloc(1, tl_stats_page_bytes());
    }
    share->now = (struct tl_stats){.version = TL_STATS_VERSION,
                                   .size = sizeof share->now,
                                   .pid = (uint64_t)getpid(),
                                   .start_unix_s = (uint64_t)time(NULL),
                                   .heat_layer = UINT32_MAX};
    snprintf(share->now.command, sizeof share->now.command, "%s", command);
    if (share->page == NULL) {
        free(share);
        *out = NULL;
        return;
    }
    tl_stats_publish(share->page, &share->now);
}

void cli_share_close(struct cli_share **share) {
    if (*share == NULL) {
        return;
    }
    if ((*share)->fd >= 0) {
        unlink((*share)->path);
        munmap((*share)->page, tl_stats_page_bytes());
        close((*share)->fd);
    } else {
        free((*share)->page);
    }
    free(*share);
    *share = NULL;
}

/* True where nobody holds the file's lock. */
static bool is_free(int fd) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_GETLK, &whole) == 0 && whole.l_type == F_UNLCK;
}

/* Closing any descriptor of the own file would give its lock away. */
static bool is_own(uint64_t pid) { return pid == (uint64_t)getpid(); }

bool cli_share_lives(uint64_t pid) {
    char path[256];
    if (is_own(pid)) {
        return true;
    }
    const int fd = path_of(pid, path, sizeof path) ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) {
        return false;
    }
    const bool lives = !is_free(fd);
    close(fd);
    return lives;
}

tl_stats_page *cli_share_map(uint64_t pid) {
    char path[256];
    struct stat st;
    if (is_own(pid) || !path_of(pid, path, sizeof path)) {
        return NULL;
    }
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    void *page = MAP_FAILED;
    if (is_free(fd)) {
        unlink(path);
    } else if (fstat(fd, &st) == 0 && st.st_size == (off_t)tl_stats_page_bytes()) {
        page = mmap(NULL, tl_stats_page_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    close(fd);
    return page != MAP_FAILED ? page : NULL;
}

void cli_share_unmap(tl_stats_page *page) {
    if (page != NULL) {
        munmap(page, tl_stats_page_bytes());
    }
}

static void publish(struct cli_share *share) {
    share->now.now_ns = tl_now_ns();
    tl_stats_publish(share->page, &share->now);
}

void cli_share_load(struct cli_share *share, uint64_t done_bytes, uint64_t bytes) {
    if (share == NULL) {
        return;
    }
    struct tl_stats *const now = &share->now;
    if (done_bytes == 0) {
        now->load_begin_ns = tl_now_ns();
        now->activity = TL_ACTIVITY_LOADING;
    }
    now->load_done_bytes = done_bytes;
    now->load_bytes = bytes;
    publish(share);
}

void cli_share_session(struct cli_share *share, const tl_engine *e, const tl_session *s,
                       const char *kv) {
    if (share != NULL) {
        tl_stats_describe(&share->now, e, s, kv);
        share->now.activity = TL_ACTIVITY_IDLE;
        publish(share);
    }
}

void cli_share_prompt(struct cli_share *share, size_t done, size_t total) {
    if (share == NULL) {
        return;
    }
    struct tl_stats *const now = &share->now;
    if (done == 0) {
        now->prompt_begin_ns = tl_now_ns();
        now->activity = TL_ACTIVITY_PROMPT;
        memset(&share->request, 0, sizeof share->request);
        share->request.begin_ns = now->prompt_begin_ns;
    }
    now->prompt_done = done;
    now->prompt_total = total;
    now->prompt_end_ns = tl_now_ns();
    publish(share);
}

void cli_share_prompt_end(struct cli_share *share, const tl_engine *e, const tl_session *s) {
    if (share == NULL) {
        return;
    }
    share->now.n_prompt_tokens += share->now.prompt_done;
    share->now.prompt_ns += share->now.prompt_end_ns - share->now.prompt_begin_ns;
    share->now.activity = TL_ACTIVITY_IDLE;
    tl_stats_describe_layers(&share->now, e, s);
    publish(share);
}

static double prompt_s(const struct tl_stats *s) {
    return (double)(s->prompt_end_ns - s->prompt_begin_ns) / 1e9;
}

/* Only where somebody watches: it costs a copy from the device. */
static void add_heat(struct cli_share *share, tl_session *s) {
    const int32_t *rows = NULL;
    uint32_t il = 0, n = 0;
    const bool watched = tl_stats_watched(share->page, tl_now_ns(), &il);
    if (!watched || il >= share->now.n_layers || tl_session_chosen(s, il, &rows, &n)) {
        n = 0; /* a device that failed says so at its next step */
    }
    tl_stats_add_heat(&share->now, il, rows, n);
}

void cli_share_step(struct cli_share *share, const tl_engine *e, tl_session *s, uint64_t step_ns,
                    uint64_t sample_ns) {
    if (share != NULL) {
        uint64_t moved_ns;
        const bool tells = tl_session_transfer_ns(s, &moved_ns) && moved_ns <= step_ns;
        const uint64_t time_ns[TL_TIME_COUNT] = {[TL_TIME_STEP] = step_ns,
                                                 [TL_TIME_COMPUTE] = step_ns - moved_ns,
                                                 [TL_TIME_TRANSFER] = moved_ns,
                                                 [TL_TIME_WAIT] = moved_ns,
                                                 [TL_TIME_SAMPLE] = sample_ns};
        const uint32_t always = 1u << TL_TIME_STEP | 1u << TL_TIME_SAMPLE;
        share->now.activity = TL_ACTIVITY_ANSWER;
        share->request.n_tokens++;
        if (share->request.first_s == 0) { /* chosen before this step */
            share->request.first_s = prompt_s(&share->now) + (double)sample_ns / 1e9;
        }
        tl_stats_update(&share->now, e, s);
        tl_stats_add_step(&share->now, time_ns, tells ? (1u << TL_TIME_COUNT) - 1 : always);
        add_heat(share, s);
        publish(share);
    }
}

/* What vLLM tells of a request that is over. */
static void add_request(struct cli_share *share, size_t n_tokens) {
    struct tl_stats *const now = &share->now;
    const double whole_s = (double)(tl_now_ns() - share->request.begin_ns) / 1e9;
    const double prefill_s = prompt_s(now);
    const struct {
        tl_hist_kind kind;
        double value;
    } values[] = {
        {TL_HIST_FIRST, share->request.first_s > 0 ? share->request.first_s : whole_s},
        {TL_HIST_REQUEST, whole_s},
        {TL_HIST_PREFILL, prefill_s},
        {TL_HIST_DECODE, whole_s - prefill_s},
        {TL_HIST_N_PROMPT, (double)now->prompt_done},
        {TL_HIST_N_ANSWER, (double)n_tokens},
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        tl_hist_add(&now->hists[values[i].kind], values[i].kind, values[i].value);
    }
}

void cli_share_answer_end(struct cli_share *share, tl_finish how, size_t n_tokens) {
    if (share == NULL) {
        return;
    }
    share->now.activity = TL_ACTIVITY_IDLE;
    share->now.n_answers[how]++;
    /* The last one may have had no step: it is chosen, and nothing follows. */
    share->now.n_answer_tokens += n_tokens - tl_min_u64(n_tokens, share->request.n_tokens);
    if (share->request.begin_ns != 0 && n_tokens > 0) {
        add_request(share, n_tokens);
    }
    memset(&share->request, 0, sizeof share->request);
    publish(share);
}
