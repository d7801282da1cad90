/* Launch shapes as data, one row for a generation of cards, oldest first. What they were chosen by
 * stands beside them; scripts/gpu.sh bench measures every op on a card with them. So far no row was
 * tuned on its card: sm_86 follows from the arithmetic below, the others from their differences. */
#include "kernels.h"

/* RTX 3090: 82 multiprocessors of 1536 threads and 100 KiB of shared memory, 936 GB/s, some 600 ns
 * from a request to its bytes. So 560 KB have to be on their way, 7 KB a multiprocessor: 12 warps
 * that each wait for three pieces of about 600 bytes are 20 KB. A tile of keys and values of 18 KB
 * lets five blocks stand on a multiprocessor. */
static const struct cu_tuning rows[] = {
    {"sm_75", 75, 12, 16, 3, 18432, 3, 8192, 32}, {"sm_80", 80, 24, 16, 6, 18432, 6, 8192, 32},
    {"sm_86", 86, 12, 16, 4, 18432, 4, 8192, 32}, {"sm_89", 89, 12, 16, 4, 18432, 4, 8192, 32},
    {"sm_90", 90, 32, 16, 8, 18432, 8, 8192, 32}, {"sm_120", 120, 16, 16, 5, 18432, 5, 8192, 32},
};

const struct cu_tuning *cu_tuning_of(uint32_t capability) {
    const struct cu_tuning *best = &rows[0];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        best = rows[i].capability <= capability ? &rows[i] : best;
    }
    return best;
}
