#include "plan/memory.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "minim/tensor.h"

namespace minim {
namespace {

size_t Aligned(size_t bytes) { return (bytes + kAlignment - 1) & ~(kAlignment - 1); }

bool Overlap(const BufferRequest& a, const BufferRequest& b) {
  return a.first <= b.last && b.first <= a.last;
}

// Each request in `order` at the lowest offset that is free while it lives.
MemoryPlan PlaceInOrder(const std::vector<BufferRequest>& requests,
                        const std::vector<size_t>& order) {
  MemoryPlan plan;
  plan.offsets.assign(requests.size(), 0);
  std::vector<size_t> placed;  // by offset
  for (size_t r : order) {
    const size_t bytes = Aligned(requests[r].bytes);
    size_t offset = 0;
    for (size_t other : placed) {
      if (!Overlap(requests[r], requests[other])) continue;
      if (offset + bytes <= plan.offsets[other]) break;
      offset = std::max(offset, plan.offsets[other] + Aligned(requests[other].bytes));
    }
    plan.offsets[r] = offset;
    plan.bytes = std::max(plan.bytes, offset + bytes);
    const auto at = std::upper_bound(placed.begin(), placed.end(), r, [&](size_t a, size_t b) {
      return plan.offsets[a] < plan.offsets[b];
    });
    placed.insert(at, r);
  }
  return plan;
}

// What goes first: the largest is right for most graphs; long lives, areas and times win where
// values of many sizes overlap, as under dense connections.
using Weight = double (*)(const BufferRequest&);
constexpr Weight kWeights[] = {
    [](const BufferRequest& r) { return static_cast<double>(r.bytes); },
    [](const BufferRequest& r) { return static_cast<double>(r.bytes) * (r.last - r.first + 1); },
    [](const BufferRequest& r) { return static_cast<double>(r.last - r.first); },
    [](const BufferRequest& r) { return -static_cast<double>(r.first); },
    [](const BufferRequest& r) { return static_cast<double>(r.last); },
};

std::vector<size_t> OrderBy(const std::vector<BufferRequest>& requests, Weight weight) {
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const double left = weight(requests[a]), right = weight(requests[b]);
    return left != right ? left > right : requests[a].bytes > requests[b].bytes;
  });
  return order;
}

// What ends highest goes first the next time.
void Promote(const std::vector<BufferRequest>& requests, const MemoryPlan& plan,
             std::vector<size_t>& order) {
  const auto highest = std::find_if(order.begin(), order.end(), [&](size_t r) {
    return plan.offsets[r] + Aligned(requests[r].bytes) == plan.bytes;
  });
  std::rotate(order.begin(), highest, highest + 1);
}

// Rounds of one order: fewer for many requests, whose pairs are compared in each.
int Rounds(size_t requests) {
  constexpr double kPairs = 4e7;
  const double pairs = static_cast<double>(requests) * static_cast<double>(requests);
  return static_cast<int>(std::clamp(kPairs / (pairs + 1), 1.0, 16.0));
}

}  // namespace

std::vector<size_t> LiveBytes(const std::vector<BufferRequest>& requests) {
  size_t steps = 0;
  for (const BufferRequest& r : requests) steps = std::max(steps, static_cast<size_t>(r.last) + 1);
  std::vector<size_t> live(steps + 1, 0);  // first changes, modulo the word, then sums
  for (const BufferRequest& r : requests) {
    live[r.first] += Aligned(r.bytes);
    live[r.last + 1] -= Aligned(r.bytes);
  }
  std::partial_sum(live.begin(), live.end(), live.begin());
  live.pop_back();
  return live;
}

MemoryPlan PlanMemory(const std::vector<BufferRequest>& requests) {
  const std::vector<size_t> live = LiveBytes(requests);
  const size_t live_bytes = live.empty() ? 0 : *std::max_element(live.begin(), live.end());
  MemoryPlan best;
  best.offsets.assign(requests.size(), 0);
  best.bytes = std::numeric_limits<size_t>::max();
  for (Weight weight : kWeights) {
    std::vector<size_t> order = OrderBy(requests, weight);
    for (int round = 0; round < Rounds(requests.size()) && best.bytes != live_bytes; ++round) {
      MemoryPlan plan = PlaceInOrder(requests, order);
      if (!requests.empty()) Promote(requests, plan, order);
      if (plan.bytes < best.bytes) best = std::move(plan);
    }
  }
  best.live_bytes = live_bytes;
  return best;
}

}  // namespace minim
