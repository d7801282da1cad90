// What the four matmuls share: y (n, m) (+)= x (n, k) w (m, k)^T + bias, then the soft cap. They differ in
// who computes what: matmul.comp few rows of x on hardware; matmul_tile.comp many of them there, matmul_coop.comp by matrix units;
// matmul_host.comp any number where kernels run on the host.
layout(constant_id = 2) const uint DTYPE = 0;

layout(binding = 0) buffer Y { float y[]; };
layout(binding = 1) readonly buffer X { float x[]; };
layout(binding = 2) readonly buffer W_32 { uint W32[]; };
layout(binding = 2) readonly buffer W_16 { uint16_t W16[]; };
layout(binding = 3) readonly buffer Bias { float bias[]; };
layout(push_constant) uniform Push {
    uint y_first, x_first, w_first, bias_first; // bytes
    uint n, k, m;                               // x (n, k), y (n, m)
    uint col, cols;                             // the window's rows of w: y's columns [col, col + cols)
    uint flags;                                 // 1: accumulate, 2: bias
    float softcap;
};
#include "dtype.glsl"

void store(uint i, uint column, float sum) {
    const uint at = y_first / 4 + i * m + column;
    if ((flags & 1) != 0) {
        sum += y[at];
    }
    if ((flags & 2) != 0) {
        sum += bias[bias_first / 4 + column];
    }
    y[at] = cap_softly(sum, softcap);
}
