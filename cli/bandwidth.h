/* How fast this device reads memory, as its own matrix-vector product sees it: what benches divide
 * by, measured in the same run. */
#ifndef TL_CLI_BANDWIDTH_H
#define TL_CLI_BANDWIDTH_H

#include "core/backend.h"

/* Bytes per second, best of several passes over a matrix far larger than any cache. */
TL_MUST tl_err cli_measure_bandwidth(const tl_backend *backend, const struct tl_dev_params *params,
                                     double *bytes_per_s);

#endif
