/* The ops 8 floats at a time, laid over the plain ones; the code is in x86_*.inc. */
#include "x86_attend.inc"
#include "x86_ops.inc"

void cpu_init_avx2(struct cpu_kernels *k) {
    *k = (struct cpu_kernels){.name = "avx2",
                              .matmul = cpu_matmul_avx2,
                              .rmsnorm = rmsnorm,
                              .glu = glu,
                              .rope = rope,
                              .kv_encode = kv_encode,
                              .attend = attend};
}
