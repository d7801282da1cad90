/* Attention over compressed rows, laid over the plain one; the code is in x86_sketch.inc. */
#include "books.h"
#include "x86_sketch.inc"

bool cpu_compress_avx2(struct cpu_dev *dev, const struct tl_compress *op) {
    return cpu_compress_by(dev, op, vq_search);
}

bool cpu_key_score_avx2(struct cpu_dev *dev, const struct tl_key_score *op) {
    return cpu_sketch_score(dev, op, &sketch_kernels);
}

bool cpu_attend_sketch_avx2(struct cpu_dev *dev, const struct tl_attend_sketch *op) {
    return cpu_sketch_attend(dev, op, &sketch_kernels);
}
