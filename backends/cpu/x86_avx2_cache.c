/* The hybrid cache's choice of rows and attention over them, laid over the plain versions; the code
 * is in x86_topk.inc and x86_slots.inc. */
#include <float.h>

#include "x86_slots.inc"
#include "x86_topk.inc"

bool cpu_topk_avx2(struct cpu_dev *dev, const struct tl_topk *op) { return topk(dev, op); }

bool cpu_attend_slots_avx2(struct cpu_dev *dev, const struct tl_attend_slots *op) {
    return attend_slots(dev, op);
}
