/* The ops' AVX2 versions (with FMA and F16C), laid over the plain table. */
#include "cpu.h"

void cpu_init_avx2(struct cpu_kernels *k) {
    k->name = "avx2";
    k->matmul = cpu_matmul_avx2;
}
