#version 460
// The nearest entry for each vector of turned rows, as tl_vq_nearest finds it, and the codes in their places.
// A workgroup has VECTORS vectors an invocation, of one block, and meets all entries a tile at a time, which
// lies in shared memory with half the square of each.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint FORM = 0x408; // vq.glsl
layout(constant_id = 3) const uint VECTORS = 1;  // GROUP * VECTORS is a whole number of places
#include "vq.glsl"
const uint DIM = FORM >> 8, BITS = FORM & 255u, ENTRIES = 1u << BITS;
const uint TILE = ENTRIES < 256 ? ENTRIES : 256;
const uint PLACES = GROUP * VECTORS / 64;

layout(binding = 0) writeonly buffer Dst { uint dst[]; };
layout(binding = 1) readonly buffer Turned { float turned[]; }; // blocks of (channels, 64)
layout(binding = 2) readonly buffer Scales { float scales[]; };
layout(binding = 3) readonly buffer Book { uint book[]; };
layout(push_constant) uniform Push {
    uint dst_first, turned_first, scales_first, book_first; // bytes
    uint d, blocks, dst_cap, pieces;                        // workgroups of a block
};

shared float entries[TILE * (DIM + 1)];
shared uint codes[GROUP * VECTORS];
float x[VECTORS * DIM];
float best[VECTORS];
uint code[VECTORS];

void load_tile(uint first) {
    for (uint i = gl_LocalInvocationIndex; i < TILE; i += GROUP) {
        precise float sum = 0.0;
        [[unroll]] for (uint j = 0; j < DIM; j += 2) {
            const vec2 two = halves_of(book[book_first / 4 + ((first + i) * DIM + j) / 2]);
            precise const float a = two.x * two.x, b = two.y * two.y;
            entries[i * (DIM + 1) + j] = two.x;
            entries[i * (DIM + 1) + j + 1] = two.y;
            sum = sum + a;
            sum = sum + b;
        }
        entries[i * (DIM + 1) + DIM] = 0.5 * sum;
    }
}

void search_tile(uint first) {
    for (uint c = 0; c < TILE; c++) {
        [[unroll]] for (uint v = 0; v < VECTORS; v++) {
            precise float away = entries[c * (DIM + 1) + DIM];
            [[unroll]] for (uint j = 0; j < DIM; j++) {
                precise const float product = x[v * DIM + j] * entries[c * (DIM + 1) + j];
                away = away - product;
            }
            code[v] = away < best[v] ? first + c : code[v];
            best[v] = away < best[v] ? away : best[v];
        }
    }
}

void main() {
    const uint at = gl_WorkGroupID.x / pieces, piece = gl_WorkGroupID.x % pieces;
    const uint n_places = d / DIM;
    const float scale = scales[scales_first / 4 + at], share = scale > 0.0 ? divide(1.0, scale) : 0.0;
    [[unroll]] for (uint v = 0; v < VECTORS; v++) {
        const uint i = v * GROUP + gl_LocalInvocationIndex;
        const uint place = min(piece * PLACES + i / 64, n_places - 1);
        [[unroll]] for (uint j = 0; j < DIM; j++) {
            precise const float number = turned[turned_first / 4 + (at * d + place * DIM + j) * 64 + i % 64] * share;
            x[v * DIM + j] = number;
        }
        best[v] = INFINITY;
        code[v] = 0;
    }
    for (uint first = 0; first < ENTRIES; first += TILE) {
        barrier();
        load_tile(first);
        barrier();
        search_tile(first);
    }
    [[unroll]] for (uint v = 0; v < VECTORS; v++) {
        codes[v * GROUP + gl_LocalInvocationIndex] = code[v];
    }
    barrier();
    const uint block = dst_first / 4 + (at / blocks * dst_cap + at % blocks) * vq_block_words(FORM, d) + 1;
    for (uint i = gl_LocalInvocationIndex; i < PLACES * 2 * BITS; i += GROUP) {
        const uint place = i / (2 * BITS), bit = i % (2 * BITS) * 32; // of a place's codes
        if (piece * PLACES + place < n_places) {
            uint word = 0;
            for (uint t = bit / BITS; t * BITS < bit + 32; t++) {
                const uint its = codes[place * 64 + t], from = t * BITS;
                word |= from >= bit ? its << (from - bit) : its >> (bit - from);
            }
            dst[block + piece * PLACES * 2 * BITS + i] = word;
        }
    }
}
