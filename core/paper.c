/* The table of a device that only counts. Buffers of device memory are lengths; those of host
 * memory are zeroed bytes. Wrapped memory counts as device memory, since that is where weights go.
 */
#include "paper.h"

#include <stdlib.h>
#include <string.h>

static uint32_t dev_count(void) { return 1; }

struct paper_dev {
    tl_dev base;
    bool unified;
};

static tl_err dev_open(tl_dev **out, const struct tl_dev_params *params) {
    struct paper_dev *const dev = calloc(1, sizeof *dev);
    if (dev == NULL) {
        return TL_ERR_MEMORY;
    }
    dev->base.backend = &tl_backend_paper;
    dev->unified = params->debug != NULL && strcmp(params->debug, TL_PAPER_UNIFIED) == 0;
    *out = &dev->base;
    return TL_OK;
}

static void dev_close(tl_dev *dev) { free(dev); }

static void dev_caps(tl_dev *dev, struct tl_dev_caps *out) {
    memcpy(out->name, "paper", sizeof "paper");
    out->unified = ((const struct paper_dev *)dev)->unified;
    out->codebooks = true;
}

static tl_err buf_alloc(tl_buf **out, tl_dev *dev, uint64_t bytes, tl_mem mem) {
    tl_buf *const buf = malloc(sizeof *buf);
    void *const host = mem == TL_MEM_HOST && bytes <= SIZE_MAX ? calloc(1, (size_t)bytes) : NULL;
    if (buf == NULL || (mem == TL_MEM_HOST && host == NULL)) {
        free(buf);
        free(host);
        return TL_ERR_MEMORY;
    }
    *buf = (tl_buf){.dev = dev, .host = host, .bytes = bytes, .mem = mem};
    *out = buf;
    return TL_OK;
}

static tl_err buf_wrap(tl_buf **out, tl_dev *dev, const void *host, uint64_t bytes) {
    (void)host;
    return buf_alloc(out, dev, bytes, TL_MEM_DEVICE);
}

static void buf_free(tl_buf *buf) {
    free(buf->host);
    free(buf);
}

static tl_err copy(tl_stream *s, const tl_view *dst, const tl_view *src) {
    (void)s;
    (void)dst;
    (void)src;
    return TL_OK; /* of lengths nothing is left to copy */
}

static tl_err stream_open(tl_stream **out, tl_dev *dev) {
    tl_stream *const s = malloc(sizeof *s);
    if (s == NULL) {
        return TL_ERR_MEMORY;
    }
    *s = (tl_stream){.dev = dev};
    *out = s;
    return TL_OK;
}

static void stream_close(tl_stream *s) { free(s); }

static tl_err stream_sync(tl_stream *s) {
    (void)s;
    return TL_OK;
}

const tl_backend tl_backend_paper = {
    .name = "paper",
    .dev_count = dev_count,
    .dev_open = dev_open,
    .dev_close = dev_close,
    .dev_caps = dev_caps,
    .buf_alloc = buf_alloc,
    .buf_wrap = buf_wrap,
    .buf_free = buf_free,
    .copy = copy,
    .stream_open = stream_open,
    .stream_close = stream_close,
    .stream_sync = stream_sync,
};
