// Distillation: a smaller graph learns from a larger one what labels alone do not say.
#pragma once

#include <memory>

#include "compress/fine_tune.h"
#include "graph/graph.h"

namespace minim {

struct DistillOptions {
  double temperature = 4;  // of both softmaxes
  double alpha = 0.5;      // the labels' part of the loss; the rest is the teacher's
  FineTuneOptions tune;    // its loss says whether outputs are logits or values
};

/// Trains `student` on alpha * CE(labels) + (1 - alpha) * T^2 * KL(teacher || student), the mean
/// over the batch of log-softmaxes at temperature T. With tune.loss kBinaryCrossEntropy each logit
/// is an event of its own, with kMeanSquaredError the loss is alpha * MSE(targets) + (1 - alpha) *
/// MSE(teacher). The teacher runs once over `train`, in inference. Errors: those of FineTune;
/// kInvalidArgument where the two graphs' outputs disagree.
Result<FineTuned> Distill(const Graph& teacher, const Graph& student, DataSource& train,
                          const DistillOptions& options);

/// What Distill trains on, for other uses of FineTune (a pruned graph that learns from the whole
/// one): `source` gives labels that hold the teacher's outputs too, as `loss` reads them.
struct Teaching {
  std::shared_ptr<DataSource> source;
  LossBuilder loss;
};
/// `train` must outlive the source.
Result<Teaching> Teach(const Graph& teacher, DataSource& train, const DistillOptions& options);

struct StudentTemplate {
  double parameters = 0.5;  // the share of the teacher's that the student has; 1: all
  bool shallower = false;   // without every second of blocks that repeat; else narrower layers only
};

/// The teacher with its best channels (PruneChannels), after every second of several like blocks in
/// a row was left out if the template says so. A block maps a value to one of the same type and
/// holds weights. Errors: kUnsupported says what is in the way.
Result<Graph> MakeStudent(const Graph& teacher, const StudentTemplate& student);

}  // namespace minim
