#version 460
// y := act(gate) * up, element by element.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint GELU = 0;

layout(binding = 0) buffer Y { float y[]; };
layout(binding = 1) readonly buffer Gate { float gate[]; };
layout(binding = 2) readonly buffer Up { float up[]; };
layout(push_constant) uniform Push {
    uint y_first, gate_first, up_first; // bytes
    uint n;
};

// 0.5 (1 + tanh u) is the sigmoid of 2 u.
float activate(float x) {
    const float arg = GELU != 0 ? 1.59576912 * (x + 0.044715 * x * x * x) : x;
    const float e = exp_of(-abs(arg));
    return x * ((arg >= 0.0 ? 1.0 : e) / (1.0 + e));
}

void main() {
    for (uint i = gl_GlobalInvocationID.x; i < n; i += gl_NumWorkGroups.x * GROUP) {
        y[y_first / 4 + i] = activate(gate[gate_first / 4 + i]) * up[up_first / 4 + i];
    }
}
