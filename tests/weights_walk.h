/* Uses a model file as a curious program would: every key, string, element and tensor is looked up
 * and read, tensors down to their last byte, and everything found must be as weights.h promises. A
 * promise that is broken aborts (TL_ASSERT) or trips a sanitizer. For tests and fuzzers. */
#ifndef TL_WEIGHTS_WALK_H
#define TL_WEIGHTS_WALK_H

#include "core/weights.h"

void weights_walk(const tl_weights *w);

#endif
