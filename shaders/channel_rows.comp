#version 460
// Copies the channels that channel_place.comp gave places to: a subgroup has every `strides`-th piece of
// a channel's keys in the blocks that there are.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 0) writeonly buffer Part { uint part[]; };
layout(binding = 1) readonly buffer Keys { uint keys[]; };
layout(binding = 2) readonly buffer Moves { int moves[]; };
layout(binding = 3) readonly buffer Count { int n_blocks[]; };
layout(push_constant) uniform Push {
    uint part_first, keys_first, count_first; // bytes
    uint k, d, row_words, strides;
    uint head, heads; // the window: part and keys begin at its head
};

void main() {
    const uint team = team_of(), stride = team % strides, local = team / strides;
    if (local >= heads * k) {
        return;
    }
    const int channel = moves[head * k + local];
    if (channel < 0) {
        return;
    }
    const uint words = uint(max(n_blocks[count_first / 4], 0)) * 32;
    const uint from = keys_first / 4 + (local / k * d + uint(channel)) * row_words;
    const uint to = part_first / 4 + local * row_words;
    for (uint i = stride * SUBGROUP + lane_of(); i < words; i += strides * SUBGROUP) {
        part[to + i] = keys[from + i];
    }
}
