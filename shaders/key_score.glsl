// What both kernels of key_score share.
layout(binding = 0) writeonly buffer Score { float score[]; };
layout(binding = 1) readonly buffer Q { float q[]; };
layout(binding = 2) readonly buffer Count { int n_blocks[]; };
layout(binding = 3) readonly buffer K { uint SK32[]; };
layout(push_constant) uniform Push {
    uint score_first, q_first, count_first, k_first; // bytes
    uint group, d, cap, cols;                        // cap: blocks of a head; cols: of score
    uint head, heads, block, blocks;                 // the window of the sketch; score begins at its head
    uint strides;                                    // subgroups that share the blocks of a head
    float scale, softcap;
};
#include "sketch.glsl"
const uint MINE = BLOCK / SUBGROUP; // rows of a lane
