#version 460
// Turns rows as core/vq.c does, operation by operation, since what is encoded must become the same bytes:
// queries times the smoothing factors, outputs as they are, and rows to be encoded, f16, divided by the
// factors; then rotated by the Hadamard matrix of blocks. A workgroup has TURNED rows.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint TURNED = 1;
layout(constant_id = 3) const uint WIDTH = 64; // channels of a row
layout(constant_id = 4) const uint ENCODES = 0; // rows come as f16 and leave channel by channel

layout(binding = 0) buffer To { float to[]; };
layout(binding = 1) readonly buffer From { float from[]; };
layout(binding = 1) readonly buffer From_16 { uint from_16[]; };
layout(binding = 2) readonly buffer Smooth { float smooth_by[]; };
layout(push_constant) uniform Push {
    uint to_first, from_first, smooth_first; // bytes
    uint smoothed;                           // there are factors
    uint n, heads, group;                    // rows; turned: row i is of KV head i % heads / group
    uint cap, blocks, head;                  // encoded: rows of a head, blocks of it, the first head
};

shared float rows[TURNED * WIDTH];

const float ROOT_HALF = 0.707106769; // 1.0f / sqrtf(2.0f), as C rounds it

float clean(uint bits) {
    const uint size = bits & 0x7fffu;
    const float x = half_of(size == 0x7c00u ? (bits & 0x8000u) | 0x7bffu : bits);
    return size > 0x7c00u ? 0.0 : x;
}

void load(uint i, uint r, uint c) {
    if (ENCODES != 0) {
        const uint local_head = i / (blocks * 64), row = local_head * cap + i % (blocks * 64);
        const uint at = from_first / 2 + row * WIDTH + c;
        const float x = clean(from_16[at >> 1] >> 16 * (at & 1) & 0xffffu);
        const float by = smoothed != 0 ? smooth_by[smooth_first / 4 + (head + local_head) * WIDTH + c] : 1.0;
        rows[r * WIDTH + c] = smoothed != 0 ? divide(x, by) : x;
    } else {
        const float by = smoothed != 0 ? smooth_by[smooth_first / 4 + i % heads / group * WIDTH + c] : 1.0;
        rows[r * WIDTH + c] = from[from_first / 4 + i * WIDTH + c] * by;
    }
}

// Channels [first, first + size) of all rows, size a power of two.
void rotate(uint first, uint size) {
    float share = 1.0;
    for (uint left = size; left > 1; left /= 4) {
        share *= left == 2 ? ROOT_HALF : 0.5;
    }
    for (uint step = 1; step < size; step *= 2) {
        for (uint at = gl_LocalInvocationIndex; at < TURNED * (size / 2); at += GROUP) {
            const uint pair = at % (size / 2);
            const uint i = at / (size / 2) * WIDTH + first + pair / step * 2 * step + pair % step;
            precise const float a = rows[i], b = rows[i + step];
            precise const float sum = a + b, difference = a - b;
            rows[i] = sum;
            rows[i + step] = difference;
        }
        barrier();
    }
    for (uint at = gl_LocalInvocationIndex; at < TURNED * size; at += GROUP) {
        const uint i = at / size * WIDTH + first + at % size;
        precise const float x = rows[i] * share;
        rows[i] = x;
    }
    barrier();
}

void main() {
    const uint begin = gl_WorkGroupID.x * TURNED;
    for (uint at = gl_LocalInvocationIndex; at < TURNED * WIDTH; at += GROUP) {
        if (begin + at / WIDTH < n) {
            load(begin + at / WIDTH, at / WIDTH, at % WIDTH);
        }
    }
    barrier();
    uint size = 512; // TL_HEAD_DIM_MAX
    for (uint first = 0; first < WIDTH; first += size) {
        while (size > WIDTH - first) {
            size /= 2;
        }
        rotate(first, size);
    }
    for (uint at = gl_LocalInvocationIndex; at < TURNED * WIDTH; at += GROUP) {
        if (ENCODES != 0) { // block by block: (channels, 64)
            const uint i = begin + at % TURNED, c = at / TURNED;
            to[to_first / 4 + (i / 64 * WIDTH + c) * 64 + i % 64] = rows[at % TURNED * WIDTH + c];
        } else if (begin + at / WIDTH < n) {
            to[to_first / 4 + (begin + at / WIDTH) * WIDTH + at % WIDTH] = rows[at];
        }
    }
}
