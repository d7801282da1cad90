/* A recorded step made ready to be run again and again: on two streams with the events that its
 * waits need, as one graph where the device can record it, else op by op. */
#ifndef TL_REPLAY_H
#define TL_REPLAY_H

#include "schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tl_replay tl_replay;

/* `schedule` is arranged (tl_schedule_arrange), borrowed, and not changed any more; streams by
 * lane, borrowed. Both outlive the replay. */
TL_MUST tl_err tl_replay_open(tl_replay **out, const tl_schedule *schedule,
                              tl_stream *const streams[TL_LANE_COUNT]);
void tl_replay_close(tl_replay **r); /* after tl_stream_sync of the first lane */

/* Enqueues all of it behind what stands in the first lane's stream; done when that stream is.
 * Allocates nothing. */
TL_MUST tl_err tl_replay_run(tl_replay *r);

/* Of the last run: the time of the transfer lane's ops, for which the other lane waited. False
 * where the device does not tell. */
bool tl_replay_transfer_ns(const tl_replay *r, uint64_t *ns);

/* True where the device has recorded it as one graph. */
bool tl_replay_is_graph(const tl_replay *r);

#ifdef __cplusplus
}
#endif

#endif
