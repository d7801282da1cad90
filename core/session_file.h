/* Session files: a whole session, all tiers of its cache, in one checksummed file.
 *
 *   header   64 bytes, little-endian
 *              0 "TAILORKV"     8 u32 version     12 u32 n_sections
 *             16 u64 bytes of the file            24 u64 tl_model_hash
 *             32 u64 hash of the shape            40 u32 n_layers    44 u32 n_rows
 *             48 u32 n_ctx when it was saved      52 u32 n_vocab
 *             56 u64 checksum of header and table, this field taken as 0
 *   table    n_sections times  u32 kind  u32 layer  u64 offset  u64 bytes  u64 checksum
 *   sections in the order of the table, each at the next multiple of 64, zeros between:
 *              1 policies and block counts of the layers, as JSON
 *              2 the token ids, u32     3 the logits behind the newest, f32, or nothing
 *              4 what the application wants to find again
 *              16 + tier: a part of a layer's cache (struct tl_kv_part), its groups one behind the
 *              other, layer by layer in tl_kv_list_parts' order; f16, i32 and codes as in memory
 *
 * Checksums are XXH3's 64 bits. There is one way to write a given session, so that every byte of a
 * file is checked: an altered one is refused, whichever byte it is. Files are hostile: a number
 * from a file is compared with the file's size or the session before it is used. */
#ifndef TL_SESSION_FILE_H
#define TL_SESSION_FILE_H

#include "engine.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TL_SESSION_FILE_VERSION = 1 };
#define TL_SESSION_FILE_MAGIC "TAILORKV"

/* The right to use a session file, until it is closed: one process at a time has it. PATH.lock
 * stands for it (and is removed with it; one left by a killed process does no harm). */
typedef struct tl_session_lock tl_session_lock;

/* The file itself need not be there. TL_ERR_IO: another process has it, or the folder cannot be
 * written, or there is something else than a file. Removes what a killed writer left (PATH.tmp). */
TL_MUST tl_err tl_session_lock_open(tl_session_lock **out, const char *path, const tl_log *log);
void tl_session_lock_close(tl_session_lock **lock);
bool tl_session_lock_has_file(const tl_session_lock *lock); /* it was there, or was saved since */

typedef struct tl_session_file tl_session_file;

/* What a file says about its session. Everything is borrowed from it. */
struct tl_session_info {
    uint32_t n_layers, n_rows, n_ctx;
    const struct tl_policy *policies; /* n_layers of them, one a layer */
    const struct tl_policy *dense;    /* of layers that will be found dense; NULL: none will */
    double dense_above;               /* see struct tl_session_params */
    const char *kv;                   /* what the user called them */
    tl_str app;
};

/* Maps the file and checks all of it but the cache, which tl_session_resume checks as it reads.
 * TL_ERR_FORMAT: not a session file, damaged, cut off. TL_ERR_UNSUPPORTED: another version. */
TL_MUST tl_err tl_session_file_open(tl_session_file **out, const tl_session_lock *lock);
/* The same from memory that outlives it; `name` stands for the path. */
TL_MUST tl_err tl_session_file_open_memory(tl_session_file **out, const void *data, size_t bytes,
                                           const char *name, const tl_log *log);
void tl_session_file_close(tl_session_file **f);
struct tl_session_info tl_session_file_info(const tl_session_file *f);

/* True where the file is of this model; else false after a sentence. */
bool tl_session_file_fits(const tl_session_file *f, const tl_engine *e);

/* Fills an empty session: tokens, logits and every bit of the cache, so that it goes on as the
 * saved one would have. It may have another context size, backend or thread count, not another
 * model or other policies (kv is what the user calls this session's). On failure the session is
 * empty again. TL_ERR_FORMAT: does not fit, or damaged. TL_ERR_MEMORY: its rows do not fit the
 * context. */
TL_MUST tl_err tl_session_resume(tl_session *s, const tl_session_file *f, const char *kv);

struct tl_session_save {
    const char *kv;
    tl_str app; /* at most 1 GiB */
};
/* Replaces the file, or leaves it as it was (TL_ERR_IO, TL_ERR_MEMORY): killed at any moment, the
 * process leaves the old file or the new one. It has reached the disk when this returns. */
TL_MUST tl_err tl_session_save(tl_session *s, tl_session_lock *lock,
                               const struct tl_session_save *what);

#ifdef __cplusplus
}
#endif

#endif
