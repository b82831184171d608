#include "plan/memory.h"

#include <algorithm>
#include <numeric>

#include "minim/tensor.h"

namespace minim {
namespace {

size_t Aligned(size_t bytes) { return (bytes + kAlignment - 1) & ~(kAlignment - 1); }

bool Overlap(const BufferRequest& a, const BufferRequest& b) {
  return a.first <= b.last && b.first <= a.last;
}

size_t PeakLiveBytes(const std::vector<BufferRequest>& requests) {
  int steps = 0;
  for (const BufferRequest& r : requests) steps = std::max(steps, r.last + 1);
  std::vector<ptrdiff_t> change(static_cast<size_t>(steps) + 1, 0);
  for (const BufferRequest& r : requests) {
    change[r.first] += static_cast<ptrdiff_t>(Aligned(r.bytes));
    change[r.last + 1] -= static_cast<ptrdiff_t>(Aligned(r.bytes));
  }
  ptrdiff_t live = 0, peak = 0;
  for (ptrdiff_t c : change) peak = std::max(peak, live += c);
  return static_cast<size_t>(peak);
}

}  // namespace

MemoryPlan PlanMemory(const std::vector<BufferRequest>& requests) {
  MemoryPlan plan;
  plan.offsets.assign(requests.size(), 0);
  plan.live_bytes = PeakLiveBytes(requests);
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return requests[a].bytes > requests[b].bytes; });
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

}  // namespace minim
