/* A model of random shape and weights bound to a device, for tests of what core does with any
 * shape: no file, no vocabulary. */
#ifndef TL_RANDOM_MODEL_H
#define TL_RANDOM_MODEL_H

#include "core/model.h"
#include "core/policy.h"
#include "support.h"

struct random_model {
    struct tl_family family;
    tl_model model; /* model.shape.family points above: do not move */
    float *weights; /* owned */
};

/* The same generator state gives the same model on every device. 1 to 4 layers, heads of 8 to 64.
 */
void random_model_open(struct random_model *m, struct tl_rng *rng, tl_dev *dev);
void random_model_close(struct random_model *m);

/* A policy that tl_policy_check accepts, with small windows, so that few rows fill all tiers. */
struct tl_policy random_policy(struct tl_rng *rng);

#endif
