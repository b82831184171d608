// Pruning: a smaller graph out of a trained one.
#pragma once

#include "compress/fine_tune.h"
#include "graph/graph.h"

namespace minim {

struct PruneOptions {
  int64_t multiple = 8;  // a layer keeps a multiple of it, as kernels like them, ...
  int64_t least = 8;     // ... and never fewer than this, or all that it has
};

struct Pruned {
  Graph graph;
  int64_t parameters_before = 0;  // elements of float constants; of PruneMagnitude: not zero
  int64_t parameters_after = 0;
  // Of the last fine-tuning, if there was one.
  double first_loss = 0, last_loss = 0;
  bool timed_out = false;
};

/// Removes whole channels until at most (1 - fraction) of the parameters are left, or as many as
/// `options` allows: those whose weights have the least part in the squared norm of their layers,
/// for the parameters and multiplications that they cost. Channels are followed through the graph
/// (channel_axes.h); what it does not know keeps all of its channels. The graph computes what the
/// original would if nothing read the removed channels. Its constants are folded. Errors:
/// kInvalidArgument for a fraction outside (0, 1); kUnsupported if no channel can be removed,
/// saying what is in the way.
Result<Pruned> PruneChannels(const Graph& graph, double fraction, const PruneOptions& options = {});

/// s_t = s_f + (s_i - s_f)(1 - t/n)^3 at share t/n (Zhu and Gupta, "To prune, or not to prune",
/// 2017).
double CubicSparsity(double initial, double final, double share);

struct GradualOptions {
  double fraction = 0.5;    // of parameters to remove at the end
  int rounds = 4;           // of pruning, each with an equal part of tune.epochs after it ...
  double last_share = 0.5;  // ... but the last, which has this share of them
  PruneOptions channels;
  FineTuneOptions tune;  // the time limit is that of the whole
};

/// PruneChannels by the cubic schedule with fine-tuning between; multiples of channels are kept in
/// the last round. Errors: those of both.
Result<Pruned> PruneChannelsGradually(const Graph& graph, DataSource& train,
                                      const GradualOptions& options,
                                      const FineTuneHooks& hooks = {});

/// Sets the smallest weights of Conv, Gemm, MatMul and recurrent layers to zero by the cubic
/// schedule, `fraction` of each layer at the end, and keeps them there while the others are tuned.
/// Nothing becomes smaller or faster by it alone: that is for whoever stores the zeros.
Result<Pruned> PruneMagnitude(const Graph& graph, DataSource& train, const GradualOptions& options,
                              const FineTuneHooks& hooks = {});

/// Elements of float constants that have a rank; Pruned counts these.
int64_t ParameterCount(const Graph& graph);

}  // namespace minim
