// The training and test data of a config.
#pragma once

#include <map>
#include <memory>

#include "minim/train.h"

namespace minim {

struct TrainData {
  std::shared_ptr<DataSource> train, test;      // test: null if there is none
  std::map<std::string, std::string> metadata;  // what the trained file says of its inputs
  std::vector<bool> one_hot;                    // features that are categories; empty: none
  int64_t classes = 0;                          // of the training labels; 0: not known
};

/// One more than the largest class id; 0 of labels that are no ids.
int64_t ClassCount(const ConstView& labels);

/// Opens what the config names, splits it and checks the labels against its loss. Batches of a
/// source of the caller's own are checked as they come.
/// Errors: those of reading; kInvalidArgument for counts, shapes or labels that disagree.
Result<TrainData> OpenTrainData(const TrainConfig& config);

}  // namespace minim
