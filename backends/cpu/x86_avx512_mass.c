/* Attention weights of a few queries, laid over the plain ones; the code is in x86_mass.inc. */
#include "x86_mass.inc"

bool cpu_mass_avx512(struct cpu_dev *dev, const struct tl_mass *op) {
    return cpu_mass_fast(dev, op, mass_weights);
}
