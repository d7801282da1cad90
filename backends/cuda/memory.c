/* Device memory, pinned host memory, scratch, copies. Buffers are whole pieces of 256 bytes, so
 * that kernels may read them 16 bytes at a time up to the end.
 *
 * Host memory beyond PIN_PIECE_BYTES is anonymous memory pinned piece by piece: one address range
 * for the kernels, no single request that the driver refuses although memory is there, and, where
 * it does refuse, an error that says how far it came. A copy never crosses from one piece into
 * another, because the runtime knows them as separate allocations. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "cuda.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PIN_PIECE_BYTES ((uint64_t)1 << 30)

enum { BUF_ALIGN = 256, SCRATCH_BYTES_MIN = 1 << 20 };

static double gib(uint64_t bytes) { return (double)bytes / 0x1p30; }

/* Forgets an error that is not sticky, so that nobody takes it for his own. */
static void forget_error(void) { (void)cudaGetLastError(); }

static tl_err alloc_device(struct cu_dev *dev, struct cu_buf *buf, uint64_t bytes) {
    const cudaError_t err = cudaMalloc(&buf->device, bytes);
    if (err == cudaErrorMemoryAllocation) {
        size_t free_bytes = 0, total_bytes = 0;
        forget_error();
        (void)cudaMemGetInfo(&free_bytes, &total_bytes);
        return tl_fail(&dev->log, TL_ERR_MEMORY,
                       "cuda: no room for %.2f GiB: %.2f of %.2f GiB are free", gib(bytes),
                       gib(free_bytes), gib(total_bytes));
    }
    TL_TRY(cu_check(dev, err, "cudaMalloc"));
    /* On the stream that everything waits for, hence the wait: other streams do not. */
    TL_TRY(cu_check(dev, cudaMemset(buf->device, 0, bytes), "cudaMemset"));
    return cu_check(dev, cudaStreamSynchronize(NULL), "cudaMemset");
}

static tl_err fail_pinned(const struct cu_dev *dev, uint64_t done, uint64_t bytes) {
    forget_error();
    return tl_fail(&dev->log, TL_ERR_MEMORY,
                   "cuda: %.2f of %.2f GiB of host memory could be pinned: the system refuses more "
                   "(its memory, or the limit of locked memory: ulimit -l)",
                   gib(done), gib(bytes));
}

/* One request; the runtime's memory is not zero. */
static tl_err alloc_pinned(struct cu_dev *dev, struct cu_buf *buf, uint64_t bytes) {
    const cudaError_t err =
        cudaHostAlloc(&buf->base.host, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
    if (err == cudaErrorMemoryAllocation) {
        return fail_pinned(dev, 0, bytes);
    }
    TL_TRY(cu_check(dev, err, "cudaHostAlloc"));
    memset(buf->base.host, 0, (size_t)bytes);
    return cu_check(dev, cudaHostGetDevicePointer(&buf->device, buf->base.host, 0),
                    "cudaHostGetDevicePointer");
}

static tl_err pin_pieces(struct cu_dev *dev, struct cu_buf *buf, uint64_t bytes) {
    void *const map = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        return fail_pinned(dev, 0, bytes);
    }
    buf->base.host = buf->device = map;
    buf->map_bytes = bytes;
    while (buf->pinned_bytes < bytes) {
        const uint64_t piece = tl_min_u64(PIN_PIECE_BYTES, bytes - buf->pinned_bytes);
        const cudaError_t err = cudaHostRegister((uint8_t *)map + buf->pinned_bytes, piece,
                                                 cudaHostRegisterPortable | cudaHostRegisterMapped);
        if (err == cudaErrorMemoryAllocation || err == cudaErrorInvalidValue) {
            return fail_pinned(dev, buf->pinned_bytes, bytes);
        }
        TL_TRY(cu_check(dev, err, "cudaHostRegister"));
        buf->pinned_bytes += piece;
    }
    return TL_OK;
}

tl_err cu_buf_alloc(tl_buf **out, tl_dev *base, uint64_t bytes, tl_mem mem) {
    struct cu_dev *const dev = (struct cu_dev *)base;
    TL_TRY(cu_enter(dev));
    if (bytes > SIZE_MAX / 2) {
        return tl_fail(&dev->log, TL_ERR_MEMORY, "cuda: no room for %.0f GiB", gib(bytes));
    }
    struct cu_buf *const buf = calloc(1, sizeof *buf);
    if (buf == NULL) {
        return TL_ERR_MEMORY;
    }
    buf->base = (tl_buf){.dev = base, .bytes = bytes, .mem = mem};
    const uint64_t whole = tl_align_up(bytes, BUF_ALIGN);
    tl_err err;
    if (mem == TL_MEM_DEVICE) {
        err = alloc_device(dev, buf, whole);
    } else if (whole <= PIN_PIECE_BYTES || !dev->maps_registered) {
        err = alloc_pinned(dev, buf, whole);
    } else {
        err = pin_pieces(dev, buf, whole);
    }
    if (err) {
        cu_buf_free(&buf->base);
        return err;
    }
    *out = &buf->base;
    return TL_OK;
}

void cu_buf_free(tl_buf *base) {
    struct cu_buf *const buf = (struct cu_buf *)base;
    (void)cudaSetDevice(((const struct cu_dev *)base->dev)->ordinal);
    if (buf->map_bytes > 0) {
        for (uint64_t at = 0; at < buf->pinned_bytes; at += PIN_PIECE_BYTES) {
            (void)cudaHostUnregister((uint8_t *)base->host + at);
        }
        munmap(base->host, (size_t)buf->map_bytes);
    } else if (base->mem == TL_MEM_HOST) {
        (void)cudaFreeHost(base->host);
    } else {
        (void)cudaFree(buf->device);
    }
    free(buf);
}

/* Bytes from here to where another piece of the buffer begins. */
static uint64_t to_piece_end(const tl_view *v, uint64_t at) {
    const struct cu_buf *const buf = (const struct cu_buf *)v->buf;
    return buf->map_bytes == 0 ? UINT64_MAX
                               : PIN_PIECE_BYTES - (v->off_bytes + at) % PIN_PIECE_BYTES;
}

static uint8_t *address(const tl_view *v, uint64_t at) {
    return (uint8_t *)((const struct cu_buf *)v->buf)->device + v->off_bytes + at;
}

tl_err cu_copy(tl_stream *s, const tl_view *dst, const tl_view *src) {
    struct cu_dev *const dev = cu_dev_of(s);
    TL_TRY(cu_settle(s));
    TL_TRY(cu_enter(dev));
    ((struct cu_stream *)s)->codes = (tl_view){0};
    const uint64_t bytes = tl_view_bytes(*src);
    for (uint64_t at = 0, n; at < bytes; at += n) {
        n = tl_min_u64(bytes - at, tl_min_u64(to_piece_end(dst, at), to_piece_end(src, at)));
        const cudaError_t err = cudaMemcpyAsync(address(dst, at), address(src, at), n,
                                                cudaMemcpyDefault, ((struct cu_stream *)s)->stream);
        TL_TRY(cu_check(dev, err, "copy"));
    }
    return TL_OK;
}

void cu_scratch_free(struct cu_scratch *scratch) {
    while (scratch->n > 0) {
        (void)cudaFree(scratch->pieces[--scratch->n]);
    }
    scratch->bytes = 0;
}

tl_err cu_scratch_get(void **out, struct cu_stream *s, uint64_t bytes, const char *what) {
    struct cu_dev *const dev = cu_dev_of(&s->base);
    struct cu_scratch *const scratch = s->target;
    if (bytes > scratch->bytes) {
        const uint64_t wanted =
            tl_max_u64(bytes, tl_max_u64(2 * scratch->bytes, SCRATCH_BYTES_MIN));
        if (scratch == &s->scratch) { /* nothing recorded holds the old piece */
            TL_TRY(cu_check(dev, cudaStreamSynchronize(s->stream), what));
            cu_scratch_free(scratch);
        }
        TL_ASSERT(scratch->n < CU_PIECES_MAX); /* each is twice the last */
        void *piece = NULL;
        const cudaError_t err = cudaMalloc(&piece, wanted);
        if (err == cudaErrorMemoryAllocation) {
            forget_error();
            s->gave_up = true;
            return tl_fail(&dev->log, TL_ERR_MEMORY, "cuda: no room for %.2f GiB of scratch for %s",
                           gib(wanted), what);
        }
        TL_TRY(cu_check(dev, err, "cudaMalloc"));
        scratch->pieces[scratch->n++] = piece;
        scratch->bytes = wanted;
    }
    *out = bytes > 0 ? scratch->pieces[scratch->n - 1] : NULL;
    return TL_OK;
}
