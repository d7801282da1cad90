/* The ops 16 floats at a time, laid over the AVX2 ones; the code is in x86_*.inc. */
#include "x86_attend.inc"
#include "x86_ops.inc"

void cpu_init_avx512(struct cpu_kernels *k) {
    *k = (struct cpu_kernels){.name = "avx512-vnni",
                              .matmul = cpu_matmul_avx512,
                              .rmsnorm = rmsnorm,
                              .glu = glu,
                              .rope = rope,
                              .kv_encode = kv_encode,
                              .attend = attend};
}
