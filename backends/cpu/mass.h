/* Private to the CPU backend: how a fast `mass` is cut into tasks, and what an instruction set must
 * bring for it. The plan, the sorting and the plain version are in mass.c; the kernel of each set
 * is in x86_mass.inc. */
#ifndef TL_CPU_MASS_H
#define TL_CPU_MASS_H

#include "cpu.h"

enum { MASS_QUERIES = 4 }; /* of a task: a key is widened from f16 once for all of them */

/* A few queries of one head over the rows that any of them sees. */
struct mass_task {
    const struct tl_mass *op;
    uint32_t head, query, n;                               /* queries query .. query + n - 1 */
    uint64_t begin, end;                                   /* cache rows, begin < end */
    uint64_t first_of[MASS_QUERIES], end_of[MASS_QUERIES]; /* what each query sees of them */
    /* Result: weight r * room + (t - begin) := exp(s_t - the query's largest score), 0 for a row it
     * does not see. There is room for whole multiples of 16 rows, whose surplus may be scribbled
     * on.
     */
    float *weights;
    uint64_t room;
    float *q;        /* (MASS_QUERIES, stride) of this thread's own */
    uint32_t stride; /* head_dim in whole multiples of 16 */
};

typedef void mass_kernel(const struct mass_task *task);

/* False where it has no kernel: keys that are not f16, or no memory for scratch. */
bool cpu_mass_fast(struct cpu_dev *dev, const struct tl_mass *op, mass_kernel *kernel);

#endif
