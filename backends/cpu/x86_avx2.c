/* The ops 8 floats at a time, laid over the plain ones; the code is in x86_*.inc. */
#include "x86_attend.inc"
#include "x86_ops.inc"

void cpu_init_avx2(struct cpu_kernels *k) {
    k->name = "avx2";
    k->matmul = cpu_matmul_avx2;
    k->rmsnorm = rmsnorm;
    k->glu = glu;
    k->rope = rope;
    k->kv_encode = kv_encode;
    k->attend = attend;
    k->compress = cpu_compress_avx2;
    k->key_score = cpu_key_score_avx2;
    k->topk = cpu_topk_avx2;
    k->attend_slots = cpu_attend_slots_avx2;
    k->mass = cpu_mass_avx2;
    k->attend_sketch = cpu_attend_sketch_avx2;
    k->channel_score = cpu_channel_score_avx2;
    k->page_score = cpu_page_score_avx2;
}
