// Plan: the frozen result of compilation for one binding of shapes. Steps in order, a slot for
// every value, one arena. A Plan is data; exec runs it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "plan/memory.h"

namespace minim {

enum class Place : uint8_t { kNone, kArena, kConstant, kInput, kOutput, kState };

/// Where a value lives: an arena offset, or the index of an input, output or state.
struct Slot {
  Place place = Place::kNone;
  size_t where = 0;
};

enum class StepKind : uint8_t {
  kKernel,  // runs a bound kernel
  kAlias,   // costs nothing: the output is the input's bytes
  kCopy,    // moves bytes between two slots
  kHost,    // evaluates the op's reference; allocates
};

struct Step {
  StepKind kind = StepKind::kKernel;
  int node = -1;  // index in graph.nodes; -1 for a final Copy
  ValueId copy_from = kNoValue;
  Slot copy_to = {};
  size_t scratch_offset = 0;
  size_t scratch_bytes = 0;
  /// If given: writes states, and is left out when this bool scalar is false.
  ValueId commit_if = kNoValue;
};

/// What the executor knows about a node once its kernel is bound.
struct StepTraits {
  StepKind kind = StepKind::kKernel;
  size_t scratch_bytes = 0;
  /// The input whose buffer an output may take over; -1 if none.
  std::function<int(int output)> in_place_input = [](int) { return -1; };
};

struct Plan {
  Graph graph;              // static shapes
  std::vector<Slot> slots;  // by ValueId
  std::vector<Step> steps;
  size_t arena_bytes = 0;
  size_t live_bytes = 0;  // lower bound of any arena for these lifetimes
};

/// Lays out memory for `graph`, whose every value has a static type. traits[i] belongs to node i.
/// A state's next value takes its read buffer where every read comes first, the kernel allows, and
/// the state's condition is known by then; else it is copied there at the end.
Plan BuildPlan(Graph graph, const std::vector<StepTraits>& traits);

/// What a plan's arena is asked for.
struct ArenaUse {
  std::vector<BufferRequest> requests;  // of values, then of scratch
  std::vector<int> buffer_of;           // by value: its request; -1 outside the arena
};
ArenaUse UseOfArena(Graph graph, const std::vector<StepTraits>& traits);

}  // namespace minim
