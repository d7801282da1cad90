/* Scores by channels and by pages, laid over the plain versions; the code is in x86_index.inc. */
#include "x86_index.inc"

bool cpu_channel_score_avx512(struct cpu_dev *dev, const struct tl_channel_score *op) {
    return channel_score(dev, op);
}

bool cpu_page_score_avx512(struct cpu_dev *dev, const struct tl_page_score *op) {
    return page_score(dev, op);
}
