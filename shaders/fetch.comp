#version 460
// Which slot each wanted row of a KV head gets; a subgroup a head. The clock of core/backend.h, many
// slots at a time: of a stretch behind the hand, the unused slots are taken in order by the rows that
// are missing, and what lies before the last one taken has been passed. moves[h][j]: the slot that row j
// must be copied to, or -1; behind all of these, the slots taken, by the order of missing rows.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 0) readonly buffer Idx { int idx[]; };
layout(binding = 1) coherent buffer Slot { int slots[]; };
layout(binding = 2) coherent buffer Map { int map[]; };
layout(binding = 3) coherent buffer Owner { int owner[]; };
layout(binding = 4) coherent buffer Used { int used[]; };
layout(binding = 5) buffer Hand { int hands[]; };
layout(binding = 6) buffer Counts { int counts[]; };
layout(binding = 7) coherent buffer Moves { int moves[]; };
layout(push_constant) uniform Push {
    uint idx_first, slot_first, map_first, owner_first, used_first, hand_first, counts_first; // bytes
    uint n_heads, k, cap, n_slots;
};

bool is_missing(uint wanted, uint slot_at) { return idx[wanted] >= 0 && slots[slot_at] < 0; }

void main() {
    const uint h = team_of(), lane = lane_of();
    if (h >= n_heads) {
        return;
    }
    const uint wanted = idx_first / 4 + h * k, mine = slot_first / 4 + h * k;
    const uint rows = map_first / 4 + h * cap, taken = n_heads * k + h * k;
    const uint owners = owner_first / 4 + h * n_slots, uses = used_first / 4 + h * n_slots;
    uint n_hits = 0, n_missing = 0;
    for (uint j = lane; j < (k + SUBGROUP - 1) / SUBGROUP * SUBGROUP; j += SUBGROUP) {
        const int row = j < k ? idx[wanted + j] : -1;
        const int slot = row >= 0 ? map[rows + uint(row)] : -1;
        if (j < k) {
            slots[mine + j] = slot;
            moves[h * k + j] = -1;
        }
        if (slot >= 0) {
            used[uses + uint(slot)] = 2;
        }
        n_hits += subgroupBallotBitCount(subgroupBallot(slot >= 0));
        n_missing += subgroupBallotBitCount(subgroupBallot(row >= 0 && slot < 0));
    }
    subgroupBarrier();
    uint hand = uint(hands[hand_first / 4 + h]), n_taken = 0;
    while (n_taken < n_missing) {
        const uint step = min(SUBGROUP, n_slots);
        const uint slot = (hand + lane) % n_slots;
        const int use = lane < step ? used[uses + slot] : 2;
        const uvec4 unused = subgroupBallot(use == 0);
        const uint rank = n_taken + subgroupBallotExclusiveBitCount(unused);
        const bool takes = use == 0 && rank < n_missing;
        const uvec4 takers = subgroupBallot(takes);
        const uint n_new = subgroupBallotBitCount(takers);
        const bool stops = n_taken + n_new == n_missing;
        const uint passed = stops ? subgroupBallotFindMSB(takers) + 1 : step;
        if (takes) {
            const int old = owner[owners + slot];
            if (old >= 0) {
                map[rows + uint(old)] = -1;
            }
            used[uses + slot] = 2;
            moves[taken + rank] = int(slot);
        } else if (use == 1 && lane < passed) {
            used[uses + slot] = 0;
        }
        n_taken += n_new;
        hand = (hand + passed) % n_slots;
        subgroupBarrier();
    }
    uint before = 0;
    for (uint j = lane; j < (k + SUBGROUP - 1) / SUBGROUP * SUBGROUP; j += SUBGROUP) {
        const bool missing = j < k && is_missing(wanted + j, mine + j);
        const uvec4 all = subgroupBallot(missing);
        if (missing) {
            const int slot = moves[taken + before + subgroupBallotExclusiveBitCount(all)];
            const int row = idx[wanted + j];
            slots[mine + j] = slot;
            owner[owners + uint(slot)] = row;
            map[rows + uint(row)] = slot;
            moves[h * k + j] = slot;
        }
        before += subgroupBallotBitCount(all);
    }
    subgroupBarrier();
    for (uint j = lane; j < k; j += SUBGROUP) {
        const int slot = slots[mine + j];
        if (slot >= 0) {
            used[uses + uint(slot)] = 1;
        }
    }
    if (lane == 0) {
        hands[hand_first / 4 + h] = int(hand);
        atomicAdd(counts[counts_first / 4], int(n_hits));
        atomicAdd(counts[counts_first / 4 + 1], int(n_missing));
    }
}
