/* The ops 16 floats at a time, laid over the AVX2 ones; the code is in x86_*.inc. */
#include "x86_attend.inc"
#include "x86_ops.inc"

void cpu_init_avx512(struct cpu_kernels *k) {
    k->name = "avx512-vnni";
    k->matmul = cpu_matmul_avx512;
    k->rmsnorm = rmsnorm;
    k->glu = glu;
    k->rope = rope;
    k->kv_encode = kv_encode;
    k->attend = attend;
    k->compress = cpu_compress_avx512;
    k->key_score = cpu_key_score_avx512;
    k->topk = cpu_topk_avx512;
    k->attend_slots = cpu_attend_slots_avx512;
    k->mass = cpu_mass_avx512;
    k->attend_sketch = cpu_attend_sketch_avx512;
    k->channel_score = cpu_channel_score_avx512;
    k->page_score = cpu_page_score_avx512;
}
