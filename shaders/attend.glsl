// What the kernels of attention over exact rows share: bindings, numbers, and what a subgroup's query heads
// are. Needs SLOTS.
layout(binding = 0) writeonly buffer Parts { float parts[]; };
layout(binding = 1) readonly buffer Q { float q[]; };
layout(binding = 2) readonly buffer Pos { int q_pos[]; };
layout(binding = 3) readonly buffer Count { int n_rows[]; };
layout(binding = 4) readonly buffer K_32 { uint K32[]; };
layout(binding = 4) readonly buffer K_16 { uint16_t K16[]; };
layout(binding = 5) readonly buffer V_32 { uint V32[]; };
layout(binding = 5) readonly buffer V_16 { uint16_t V16[]; };
layout(binding = 6) readonly buffer Slot { int slots[]; };
layout(push_constant) uniform Push {
    uint q_first, pos_first, count_first, k_first, v_first, slot_first; // bytes
    uint n, n_heads, group, d;
    uint head, heads, cap, row, rows;
    uint queries, chunk;              // of a subgroup: so many queries, query heads of a group
    uint splits, n_parts, part;       // this dispatch makes parts [part, part + splits) of n_parts
    uint window, n_slots, slot_row;
    float scale, softcap;
};

// Where a query head's things are; absent ones repeat the last.
struct task {
    uint i, h;
    int first, end;
    bool live;
};

task task_of(uint r, uint tile, uint kv_head, uint piece) {
    task t;
    const uint in_group = piece * chunk + r % chunk;
    t.live = r < queries * chunk && tile * queries + r / chunk < n && in_group < group;
    t.i = min(tile * queries + r / chunk, n - 1);
    t.h = kv_head * group + min(in_group, group - 1);
    if (SLOTS != 0) {
        t.first = 0;
        t.end = int(n_slots);
    } else {
        const int pos = q_pos[pos_first / 4 + t.i];
        t.end = max(min(pos, 0x7ffffffe) + 1, 0);
        t.end = min(min(t.end, max(n_rows[count_first / 4], 0)), int(row + rows));
        t.first = window != 0 ? max(pos - int(window) + 1, 0) : 0;
        t.first = max(t.first, int(row));
    }
    return t;
}
