/* No fast products yet: every product falls to the plain loops. */
#include "cpu.h"

bool cpu_matmul_avx2(struct cpu_dev *dev, const struct tl_matmul *op) {
    (void)dev;
    (void)op;
    return false;
}
