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

}  // namespace

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

}  // namespace minim::serve
