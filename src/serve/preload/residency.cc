#include "serve/preload/residency.h"

#include <algorithm>

namespace minim::serve {
namespace {

double PerByte(const ResidentModel& model) {
  return model.rate / static_cast<double>(std::max<uint64_t>(model.bytes, 1));
}

bool LessUseful(const ResidentModel& a, const ResidentModel& b) {
  return PerByte(a) != PerByte(b) ? PerByte(a) < PerByte(b) : a.name < b.name;
}

constexpr std::chrono::hours kIdle{1};
constexpr double kIdleRate = 1;

}  // namespace

std::vector<std::string> ChooseAtStart(const std::vector<ResidentModel>& models,
                                       const std::vector<std::string>& by_use, uint64_t budget,
                                       size_t most) {
  std::vector<const ResidentModel*> order;
  for (const std::string& name : by_use) {
    const auto known = std::find_if(models.begin(), models.end(),
                                    [&](const ResidentModel& model) { return model.name == name; });
    if (known != models.end() && !known->pinned) order.push_back(&*known);
  }
  if (order.empty()) {
    for (const ResidentModel& model : models)
      if (!model.pinned) order.push_back(&model);
    most = order.size();
  }
  uint64_t left = budget;
  std::vector<std::string> load;
  const auto take = [&](const ResidentModel& model) {
    if (model.bytes > left) return false;
    left -= model.bytes;
    load.push_back(model.name);
    return true;
  };
  for (const ResidentModel& model : models)
    if (model.pinned) take(model);
  size_t taken = 0;
  for (const ResidentModel* model : order)
    if (taken < most) taken += take(*model);
  return load;
}

std::vector<std::string> ChooseEvictions(std::vector<ResidentModel> loaded, uint64_t needed,
                                         uint64_t budget) {
  uint64_t held = 0;
  for (const ResidentModel& model : loaded) held += model.bytes;
  std::sort(loaded.begin(), loaded.end(), LessUseful);
  std::vector<std::string> leave;
  for (const ResidentModel& model : loaded) {
    if (held + needed <= budget) break;
    if (model.pinned || model.busy) continue;
    held -= model.bytes;
    leave.push_back(model.name);
  }
  return leave;
}

std::vector<std::string> ChoosePreloads(const std::vector<ResidentModel>& loaded,
                                        const std::vector<ResidentModel>& others, uint64_t budget,
                                        size_t most, double margin) {
  std::vector<ResidentModel> held = loaded, wanted = others;
  std::sort(wanted.begin(), wanted.end(),
            [](const auto& a, const auto& b) { return LessUseful(b, a); });
  std::vector<std::string> load;
  for (const ResidentModel& model : wanted) {
    if (load.size() == most || model.rate <= 0) break;
    const std::vector<std::string> leave = ChooseEvictions(held, model.bytes, budget);
    double lost = 0;
    uint64_t bytes = model.bytes;
    for (const ResidentModel& other : held) {
      const bool leaves = std::find(leave.begin(), leave.end(), other.name) != leave.end();
      leaves ? lost += other.rate : bytes += other.bytes;
    }
    if (bytes > budget || model.rate < lost * margin) continue;
    std::erase_if(held, [&](const ResidentModel& other) {
      return std::find(leave.begin(), leave.end(), other.name) != leave.end();
    });
    held.push_back(model);
    load.push_back(model.name);
  }
  return load;
}

std::vector<std::string> ChooseIdle(std::vector<ResidentModel> loaded, uint64_t limit) {
  for (ResidentModel& model : loaded) model.busy |= model.idle < kIdle || model.rate >= kIdleRate;
  return ChooseEvictions(std::move(loaded), 0, limit);
}

}  // namespace minim::serve
