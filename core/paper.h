/* A device on paper: models, caches and schedules can be made on it whatever their size, since its
 * device memory has a length and no bytes. Nothing can be run on it. Plans and timelines of devices
 * that are not there are made from what is recorded on it. */
#ifndef TL_PAPER_H
#define TL_PAPER_H

#include "backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Not in tl_backends. Host memory is real (callers write to it); ops, copies included, and captures
 * are TL_ERR_UNSUPPORTED or absent. */
/* tl_dev_params.debug with which device and host memory are one. */
#define TL_PAPER_UNIFIED "unified"

extern const tl_backend tl_backend_paper;

#ifdef __cplusplus
}
#endif

#endif
