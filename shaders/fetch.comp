#version 460
// Which slot each wanted row of a KV head gets; a subgroup a head. The clock of core/backend.h, many
// slots at a time: of a stretch behind the hand, the unused slots are taken in order by the rows that
// are missing, and what lies before the last one taken has been passed. moves[h][j]: the slot that row j
// must be copied to, or -1; behind all of these, the slots taken, by the order of missing rows.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 0) readonly buffer Idx { int idx[]; };
layout(binding = 1) coherent buffer Slot { int slots[]; };
layout(binding = 2) coherent buffer Owner { int owner[]; };
layout(binding = 3) coherent buffer Used { int used[]; };
layout(binding = 4) buffer Hand { int hands[]; };
layout(binding = 5) buffer Counts { int counts[]; };
layout(binding = 6) coherent buffer Moves { int moves[]; };
layout(push_constant) uniform Push {
    uint idx_first, slot_first, owner_first, used_first, hand_first, counts_first; // bytes
    uint n_heads, k, n_slots;
};

bool is_missing(uint wanted, uint slot_at) { return idx[wanted] >= 0 && slots[slot_at] < 0; }

// Where in the n ascending rows behind `first` the given one stands; n: nowhere.
uint place_of(uint first, uint n, int row) {
    uint at = 0;
    for (uint left = n; left > 1; left -= left / 2) {
        at += idx[first + at + left / 2] <= row ? left / 2 : 0;
    }
    return n > 0 && idx[first + at] == row ? at : n;
}

void main() {
    const uint h = team_of(), lane = lane_of();
    if (h >= n_heads) {
        return;
    }
    const uint wanted = idx_first / 4 + h * k, mine = slot_first / 4 + h * k;
    const uint taken = n_heads * k + h * k;
    const uint owners = owner_first / 4 + h * n_slots, uses = used_first / 4 + h * n_slots;
    const int stands = hands[hand_first / 4 + h];
    uint n_some = 0, n_hits = 0;
    for (uint j = lane; j < (k + SUBGROUP - 1) / SUBGROUP * SUBGROUP; j += SUBGROUP) {
        if (j < k) {
            slots[mine + j] = -1;
            moves[h * k + j] = -1;
        }
        n_some += subgroupBallotBitCount(subgroupBallot(j < k && idx[wanted + min(j, k - 1)] >= 0));
    }
    subgroupBarrier();
    // Every slot asks whether its row is wanted.
    for (uint s = lane; s < (n_slots + SUBGROUP - 1) / SUBGROUP * SUBGROUP; s += SUBGROUP) {
        const int row = s < n_slots && stands > 0 ? owner[owners + s] : -1;
        const uint j = row >= 0 ? place_of(wanted, n_some, row) : n_some;
        if (j < n_some) {
            slots[mine + j] = int(s);
            used[uses + s] = 2;
        } else if (s < n_slots && stands == 0) {
            owner[owners + s] = -1;
            used[uses + s] = 0;
        }
        n_hits += subgroupBallotBitCount(subgroupBallot(j < n_some));
    }
    subgroupBarrier();
    const uint n_missing = n_some - n_hits;
    uint hand = stands > 0 ? uint(stands) - 1 : 0, n_taken = 0;
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
        hands[hand_first / 4 + h] = int(hand) + 1;
        atomicAdd(counts[counts_first / 4], int(n_hits));
        atomicAdd(counts[counts_first / 4 + 1], int(n_missing));
    }
}
