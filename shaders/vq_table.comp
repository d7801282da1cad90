#version 460
// The products of turned queries with every entry of the keys' codebook, place by place, made once for all
// blocks: vq_keys.glsl reads them. An invocation has an entry of a place, for all HEADS queries of a piece
// of a group.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint FORM = 0x408; // vq.glsl
layout(constant_id = 3) const uint HEADS = 1;
const uint DIM = FORM >> 8, ENTRIES = 1u << (FORM & 255u);
const uint TABLE = HEADS > 2 ? (HEADS + 3) / 4 * 4 : HEADS;

layout(binding = 0) writeonly buffer Table { float table[]; };
layout(binding = 1) readonly buffer Q { float q[]; };
layout(binding = 2) readonly buffer Book { uint book[]; };
layout(push_constant) uniform Push {
    uint table_first, q_first, book_first;      // bytes
    uint n, query, n_heads, group, d;           // n queries from `query` on
    uint head, heads;                           // KV heads
};

void main() {
    const uint pieces = (group + HEADS - 1) / HEADS, places = d / DIM;
    const uint items = n * heads * pieces * places * ENTRIES;
    for (uint at = gl_GlobalInvocationID.x; at < items; at += gl_NumWorkGroups.x * GROUP) {
        const uint entry = at % ENTRIES, place = at / ENTRIES % places;
        const uint which = at / ENTRIES / places, piece = which % pieces;
        const uint first = (head + which / pieces % heads) * group, i = query + which / pieces / heads;
        [[unroll]] for (uint r = 0; r < TABLE; r++) {
            const uint h = first + min(piece * HEADS + r, group - 1);
            const uint from = q_first / 4 + (i * n_heads + h) * d + place * DIM;
            float sum = 0.0;
            [[unroll]] for (uint j = 0; j < DIM; j += 2) {
                const vec2 two = halves_of(book[book_first / 4 + (entry * DIM + j) / 2]);
                sum += two.x * q[from + j] + two.y * q[from + j + 1];
            }
            table[table_first / 4 + at * TABLE + r] = sum;
        }
    }
}
