#include "train/metrics.h"

#include <algorithm>
#include <numeric>

#include "core/dtype.h"

namespace minim {

namespace {
constexpr int64_t kBatch = 100;
}

Result<std::vector<int64_t>> Classify(const Session& session, const Dataset& data) {
  std::vector<int64_t> order(static_cast<size_t>(data.size()));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::vector<int64_t> classes;
  for (int64_t first = 0; first < data.size(); first += kBatch) {
    const int64_t count = std::min(kBatch, data.size() - first);
    const Batch batch = GatherBatch(data, std::span(order).subspan(first, count));
    const ConstView views[] = {batch.samples.view()};
    MINIM_TRY(const std::vector<Tensor> outputs, session.Run(views));
    const Tensor scores = Converted(outputs[0].view(), DType::f32);
    const Dims& dims = scores.dims();  // [rows, classes] or, unflattened, [rows, classes, 1, 1]
    if (dims.rank() < 2 || dims[0] != count || dims[0] * dims[1] != scores.size())
      return InvalidArgument("the model's first output has shape {}, expected [{},classes]",
                             dims.ToString(), count);
    const int64_t width = dims[1];
    for (int64_t i = 0; i < count; ++i) {
      const auto row = scores.as<float>().subspan(i * width, width);
      classes.push_back(width == 1 ? row[0] > 0
                                   : std::max_element(row.begin(), row.end()) - row.begin());
    }
  }
  return classes;
}

Result<double> Accuracy(const Session& session, const Dataset& data) {
  MINIM_TRY(const std::vector<int64_t> classes, Classify(session, data));
  int64_t right = 0;
  for (size_t i = 0; i < classes.size(); ++i) right += classes[i] == data.labels.as<int64_t>()[i];
  return static_cast<double>(right) / static_cast<double>(classes.size());
}

}  // namespace minim
