#version 460
// y[i] := scale * src[idx[i]], 32 elements an invocation. Rows outside this window of src are left to
// another dispatch.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint DTYPE = 0;

layout(binding = 0) writeonly buffer Y { float y[]; };
layout(binding = 1) readonly buffer Src32 { uint W32[]; };
layout(binding = 1) readonly buffer Src16 { uint16_t W16[]; };
layout(binding = 2) readonly buffer Idx { int idx[]; };
layout(push_constant) uniform Push {
    uint y_first, src_first, idx_first; // bytes from the beginning of the bindings
    uint n, cols, window, window_rows;  // rows [window, window + window_rows) of src are bound
    float scale;
};
#include "dtype.glsl"

void main() {
    const uint units = (cols + UNIT - 1) / UNIT;
    for (uint at = gl_GlobalInvocationID.x; at < n * units; at += gl_NumWorkGroups.x * GROUP) {
        const uint i = at / units, unit = at % units;
        const uint row = uint(idx[idx_first / 4 + i]) - window;
        if (row >= window_rows) {
            continue;
        }
        float v[32];
        decode(src_first + row * row_bytes(cols), unit, cols, v);
        const uint count = min(UNIT, cols - unit * UNIT);
        for (uint e = 0; e < count; e++) {
            y[y_first / 4 + i * cols + unit * UNIT + e] = v[e] * scale;
        }
    }
}
