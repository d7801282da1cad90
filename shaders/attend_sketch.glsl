// What both kernels of attention over compressed rows share.
layout(binding = 0) writeonly buffer Parts { float parts[]; };
layout(binding = 1) readonly buffer Q { float q[]; };
layout(binding = 2) readonly buffer Count { int n_blocks[]; };
layout(binding = 3) readonly buffer Score { float score[]; };
layout(binding = 4) readonly buffer Skip { int skip[]; };
layout(binding = 5) readonly buffer K { uint SK32[]; };
layout(binding = 6) readonly buffer V { uint SV32[]; };
layout(push_constant) uniform Push {
    uint q_first, count_first, score_first, skip_first, k_first, v_first; // bytes
    uint n, n_heads, group, d, cap, cols;  // cap: blocks of a head; cols: of score
    uint head, heads, block, blocks;       // the window; score begins at its head
    uint splits, n_parts, part;            // parts [part, part + splits) of n_parts
    uint n_skip;
    float scale, softcap;
};
#include "sketch.glsl"
const uint MINE = BLOCK / SUBGROUP; // rows of a lane

// The first place of a head's skip list whose row is at least `row`.
uint skip_from(uint list, int row) {
    uint low = 0, high = n_skip;
    while (low < high) {
        const uint middle = (low + high) / 2;
        const int value = skip[list + middle];
        if (value >= 0 && value < row) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}
