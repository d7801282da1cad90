/* The ops' AVX-512 versions, laid over the AVX2 ones. */
#include "cpu.h"

void cpu_init_avx512(struct cpu_kernels *k) {
    k->name = "avx512-vnni";
    k->matmul = cpu_matmul_avx512;
}
