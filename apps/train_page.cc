#include "apps/train_page.h"

#include <nlohmann/json.hpp>

#include "apps/svg.h"
#include "core/error.h"
#include "core/file.h"

namespace minim {
namespace {

using nlohmann::json;

constexpr size_t kMostPoints = 2000;  // of a curve; more cannot be seen

struct Curve {
  const char *key, *title, *label;
};
constexpr Curve kCurves[] = {{"loss", "Training loss (mean of the epoch so far)", "loss"},
                             {"test_loss", "Test loss", "loss"},
                             {"test_accuracy", "Test accuracy", "share of samples"},
                             {"test_auc", "Test AUC", "area under the ROC curve"},
                             {"learning_rate", "Learning rate", "rate"},
                             {"gradient_norm", "Gradient norm, before clipping", "norm"},
                             {"scale", "Loss scale", "scale"},
                             {"skipped_steps", "Steps skipped so far", "steps"}};

Series Thinned(const Series& series) {
  const size_t every = series.x.size() / kMostPoints + 1;
  Series thin{.name = series.name};
  for (size_t i = 0; i < series.x.size(); i += every) {
    thin.x.push_back(series.x[i]);
    thin.y.push_back(series.y[i]);
  }
  return thin;
}

bool Moves(const Series& series) {
  for (double y : series.y)
    if (y != series.y[0]) return true;
  return false;
}

}  // namespace

Result<std::string> TrainCharts(const std::string& log) {
  MINIM_TRY(const std::string text, ReadFile(log, size_t{1} << 30));
  std::vector<Series> series(std::size(kCurves));
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const json line = json::parse(text.substr(begin, end - begin), nullptr, false);
    begin = end + 1;
    if (!line.is_object() || !line.contains("step") || !line["step"].is_number()) continue;
    for (size_t i = 0; i < series.size(); ++i) {
      const auto value = line.find(kCurves[i].key);
      if (value == line.end() || !value->is_number()) continue;
      series[i].x.push_back(line["step"].get<double>());
      series[i].y.push_back(value->get<double>());
    }
  }
  std::string charts;
  for (size_t i = 0; i < series.size(); ++i) {
    series[i].name = kCurves[i].label;
    const bool shown = i < 4 ? !series[i].x.empty() : Moves(series[i]);
    if (shown)
      charts += LineChart(kCurves[i].title, "step", kCurves[i].label, {Thinned(series[i])});
  }
  return charts;
}

Status WriteTrainPage(const std::string& log, const std::string& page) {
  MINIM_TRY(const std::string charts, TrainCharts(log));
  return WriteFileAtomic(page, PageHead("minim train") + charts);
}

}  // namespace minim
