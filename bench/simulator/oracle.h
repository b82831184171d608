// The offline oracle: the most requests that any schedule could answer within the target, for one
// instance, by someone who knows all arrivals and latency(batch) beforehand.
//
// It is exact for requests of one row with one common target. Then the deadlines come in the order
// of the arrivals, and three exchanges make the search small without losing the optimum:
// 1. If a batch answers j but an earlier-arrived i runs in a later batch, swapping the two keeps
//    both in time: j has arrived by the later start and is due after i; i has arrived before j and
//    ends earlier. So requests run in order of arrival.
// 2. If a batch answers i and k but a request j between them is dropped, j can take i's place. So a
//    batch is a run of consecutive arrivals, and what is dropped stands before it.
// 3. Nothing is gained by starting later than when the instance is free and the batch's last
//    request is there, as long as fewer rows never take longer (checked).
// What is left is a shortest path: after i requests, of which l were dropped, the earliest time at
// which the instance is free; only undominated pairs of (l, time) are kept.
#pragma once

#include <cstdint>
#include <span>

namespace minim {

/// `run_seconds[n - 1]` is what a run of n rows takes; it must not fall.
int64_t OracleInTime(std::span<const double> arrivals, double target_seconds,
                     std::span<const double> run_seconds);

}  // namespace minim
