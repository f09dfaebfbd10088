/* Work items shared out among the threads of the OpenMP runtime that torch has loaded already.
 *
 * `parallel` is that runtime's GOMP_parallel, found by the caller; this library links no runtime of its own, because
 * the threads of two would spin against each other. Which thread computes an item changes no bit of it. */
#ifndef RERANK_THREADS_H
#define RERANK_THREADS_H

#include <stdint.h>

typedef void (*parallel_t)(void (*work)(void *), void *job, unsigned threads, unsigned flags);

#define TURNS 8 /* of a thread, so that one that is held up leaves its work to others */

typedef struct {
    int64_t first, end;
} range;

typedef struct {
    int64_t next, count, at_once;
} items;

static inline items shared_items(int64_t count, unsigned threads) {
    int64_t at_once = threads > 1 ? count / (TURNS * (int64_t)threads) : count;
    return (items){.next = 0, .count = count, .at_once = at_once > 1 ? at_once : 1};
}

/* The next items for this thread, neighbours; none when there are no more. */
static inline range take(items *shared) {
    int64_t first = __atomic_fetch_add(&shared->next, shared->at_once, __ATOMIC_RELAXED);
    int64_t end = first + shared->at_once < shared->count ? first + shared->at_once : shared->count;
    return (range){first, end};
}

static inline void share_out(parallel_t parallel, unsigned threads, void (*work)(void *), void *job) {
    if (parallel && threads > 1) {
        parallel(work, job, threads, 0);
    } else {
        work(job);
    }
}

#endif
