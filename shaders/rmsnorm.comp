#version 460
// y (+)= x / sqrt(mean(x^2) + eps) * w, a workgroup a row.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 0) buffer Y { float y[]; };
layout(binding = 1) readonly buffer X { float x[]; };
layout(binding = 2) readonly buffer W { float w[]; };
layout(push_constant) uniform Push {
    uint y_first, x_first, w_first; // bytes
    uint n, d, accumulate;
    float eps;
};
shared float parts[GROUP / SUBGROUP];

void main() {
    const uint me = gl_LocalInvocationID.x;
    for (uint i = gl_WorkGroupID.x; i < n; i += gl_NumWorkGroups.x) {
        const uint row = x_first / 4 + i * d;
        vec4 some = vec4(0.0); // four sums, for rounding's sake
        for (uint j = me; j < d; j += GROUP) {
            const float value = x[row + j];
            some[j / GROUP & 3] += value * value;
        }
        float squares = subgroupAdd((some.x + some.y) + (some.z + some.w));
        if (GROUP > SUBGROUP) {
            if (gl_SubgroupInvocationID == 0) {
                parts[gl_SubgroupID] = squares;
            }
            barrier();
            squares = 0.0;
            for (uint s = 0; s < GROUP / SUBGROUP; s++) {
                squares += parts[s];
            }
            barrier();
        }
        const float scale = 1.0 / sqrt(squares / float(d) + eps);
        for (uint j = me; j < d; j += GROUP) {
            const float value = x[row + j] * scale * w[w_first / 4 + j];
            const uint at = y_first / 4 + i * d + j;
            y[at] = accumulate != 0 ? y[at] + value : value;
        }
    }
}
