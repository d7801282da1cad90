#include "parity.h"
void bench_cache(struct side *side, const char *op, double peak) { (void)side; (void)op; (void)peak; }
