// Memory planning: places buffers with known lifetimes into one arena.
#pragma once

#include <cstddef>
#include <vector>

namespace minim {

struct BufferRequest {
  size_t bytes = 0;
  int first = 0;  // step that writes it first
  int last = 0;   // last step that touches it, inclusive
};

struct MemoryPlan {
  std::vector<size_t> offsets;  // 64-byte aligned, one per request
  size_t bytes = 0;             // of the arena
  size_t live_bytes = 0;        // largest sum of simultaneously live requests: a lower bound
};

/// Bytes live at each step.
std::vector<size_t> LiveBytes(const std::vector<BufferRequest>& requests);

/// Greedy: buffers in some order, each at the lowest offset free for its whole lifetime (Pisarchyk
/// and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, who go by size).
/// Several orders are tried, and what ends highest is moved to their front; the smallest arena
/// wins.
MemoryPlan PlanMemory(const std::vector<BufferRequest>& requests);

}  // namespace minim
