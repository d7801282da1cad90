#version 460
// Blocks of keys become columns, a channel's 64 keys side by side; an invocation has a channel of a head
// and carries its largest absolute value from block to block.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 0) writeonly buffer Keys { uint keys[]; };
layout(binding = 1) buffer Most { uint16_t most[]; };
layout(binding = 2) readonly buffer Src { uint16_t src[]; };
layout(push_constant) uniform Push {
    uint keys_first, most_first, src_first; // bytes
    uint d, heads, cap, src_cap;            // cap: blocks of a head
    uint dst_block, n_blocks;               // src begins at their first row
    uint channel, channels;                 // keys begins there; all channels of heads where there are several
};

void main() {
    for (uint at = gl_GlobalInvocationID.x; at < heads * channels; at += gl_NumWorkGroups.x * GROUP) {
        const uint h = at / channels, c = channel + at % channels;
        uint largest = dst_block > 0 ? uint(most[most_first / 2 + (h * cap + dst_block - 1) * d + c]) : 0;
        for (uint i = 0; i < n_blocks; i++) {
            const uint to = keys_first / 4 + (at * cap + dst_block + i) * 32;
            const uint from = src_first / 2 + (h * src_cap + i * 64) * d + c;
            for (uint t = 0; t < 64; t += 2) {
                const uint a = uint(src[from + t * d]), b = uint(src[from + (t + 1) * d]);
                keys[to + t / 2] = a | b << 16;
                // Positive halves order as their bits do; above 0x7c00, infinity, are NaNs.
                const uint x = a & 0x7fffu, y = b & 0x7fffu;
                largest = x <= 0x7c00u ? max(largest, x) : largest;
                largest = y <= 0x7c00u ? max(largest, y) : largest;
            }
            most[most_first / 2 + (h * cap + dst_block + i) * d + c] = uint16_t(largest);
        }
    }
}
