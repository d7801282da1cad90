#version 460
// Copies the rows that fetch.comp gave slots to, of K or of V: a subgroup a row. Rows outside this window
// of the home are left to another dispatch.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 0) writeonly buffer Hot32 { uint hot32[]; };
layout(binding = 0) writeonly buffer Hot16 { uint16_t hot16[]; };
layout(binding = 1) readonly buffer Home32 { uint home32[]; };
layout(binding = 1) readonly buffer Home16 { uint16_t home16[]; };
layout(binding = 2) readonly buffer Moves { int moves[]; };
layout(binding = 3) readonly buffer Idx { int idx[]; };
layout(push_constant) uniform Push {
    uint hot_first, home_first, idx_first; // bytes
    uint k, n_slots, cap, row_bytes, row0;
    uint head, heads, row, rows; // the window of home; hot begins at its head
};

void main() {
    const uint team = team_of();
    if (team >= heads * k) {
        return;
    }
    const uint local_head = team / k, at = head * k + team;
    const int slot = moves[at];
    const uint from = row0 + uint(max(idx[idx_first / 4 + at], 0));
    if (slot < 0 || from < row || from >= row + rows) {
        return;
    }
    const uint src = home_first + (local_head * cap + from - row) * row_bytes;
    const uint dst = hot_first + (local_head * n_slots + uint(slot)) * row_bytes;
    if (((src | dst | row_bytes) & 3) == 0) {
        for (uint i = lane_of(); i < row_bytes / 4; i += SUBGROUP) {
            hot32[dst / 4 + i] = home32[src / 4 + i];
        }
    } else {
        for (uint i = lane_of(); i < row_bytes / 2; i += SUBGROUP) {
            hot16[dst / 2 + i] = home16[src / 2 + i];
        }
    }
}
