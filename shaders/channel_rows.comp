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
    uint head, heads;       // the window: part and keys begin at its head,
    uint place, places;     // part at its first place,
    uint channel, channels; // keys at its first channel; of more than one head, all are in it
};

void main() {
    const uint team = team_of(), stride = team % strides, local = team / strides;
    if (local >= heads * places) {
        return;
    }
    const uint h = local / places, j = place + local % places;
    const int moved = moves[(head + h) * k + j];
    if (moved < int(channel) || moved >= int(channel + channels)) {
        return;
    }
    const uint words = uint(max(n_blocks[count_first / 4], 0)) * 32;
    const uint from = keys_first / 4 + (h * d + uint(moved) - channel) * row_words;
    const uint to = part_first / 4 + (h * k + j - place) * row_words;
    for (uint i = stride * SUBGROUP + lane_of(); i < words; i += strides * SUBGROUP) {
        part[to + i] = keys[from + i];
    }
}
