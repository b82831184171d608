#include "apps/shrink_repository.h"

#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <thread>

#include "apps/progress.h"
#include "apps/shrink_page.h"
#include "compress/shrink_config.h"
#include "serve/repository/layout.h"

namespace minim {
namespace {

struct Outcome {
  std::string model;
  Status status;
  ShrinkReport report;
};

class RepositoryRun {
 public:
  RepositoryRun(const RepositoryOptions& options, std::vector<std::string> models)
      : options_(options), models_(std::move(models)), outcomes_(models_.size()) {}

  int Run() {
    std::vector<std::thread> threads;
    for (int i = 0; i < options_.jobs; ++i) threads.emplace_back([this] { Work(); });
    for (std::thread& thread : threads) thread.join();
    bar_.Finish("");
    return PrintTable();
  }

 private:
  void Work() {
    for (size_t i = next_++; i < models_.size(); i = next_++) {
      outcomes_[i] = One(models_[i]);
      const std::lock_guard lock(mutex_);
      bar_.Update(static_cast<double>(++done_) / static_cast<double>(models_.size()),
                  models_[i] + (outcomes_[i].status.ok() ? "" : " failed"));
    }
  }

  Outcome One(const std::string& name) {
    Outcome outcome{.model = name};
    outcome.status = Shrink(name, outcome.report);
    return outcome;
  }

  Status Shrink(const std::string& name, ShrinkReport& report) {
    const Path folder = Path(options_.folder) / name;
    MINIM_TRY(const auto layout, serve::RepositoryLayout::Open(options_.folder, false));
    MINIM_TRY(const serve::ModelLayout model, layout.Scan(name));
    if (model.versions.empty()) return NotFound("no version with a model.onnx");
    MINIM_TRY(ShrinkOptions options, FolderShrinkOptions(folder, options_.defaults));
    options.version = model.versions.back().number;
    options.out = folder.string();
    options.model = (folder / std::to_string(options.version) / "model.onnx").string();
    options.quiet = &quiet_;
    options.skip_if_done = !options_.again;
    MINIM_TRY(report, minim::Shrink(options));
    return WriteShrinkPage(ReportOf(options));
  }

  int PrintTable() const {
    int failed = 0;
    fmt::print("{:24} {:16} {:>10} {:>10} {:>8} {:>8}  {}\n", "model", "served by default",
               "metric", "fp32", "smaller", "faster", "");
    for (const Outcome& o : outcomes_) {
      failed += !o.status.ok();
      if (!o.status.ok()) {
        fmt::print("{:24} {:16} {}\n", o.model, "fp32", o.status.message());
        continue;
      }
      PrintLine(o);
    }
    return failed;
  }

  static void PrintLine(const Outcome& o) {
    const VariantReport& fp32 = o.report.variants[0];
    for (const VariantReport& v : o.report.variants) {
      if (v.name != o.report.preferred) continue;
      fmt::print("{:24} {:16} {:>10.4f} {:>10.4f} {:>7.2f}x {:>7.2f}x  {}{}\n", o.model, v.name,
                 v.gate.variant, fp32.gate.variant,
                 static_cast<double>(fp32.bytes) / static_cast<double>(v.bytes),
                 fp32.latency.begin()->second.p50 / v.latency.begin()->second.p50, o.report.metric,
                 o.report.was_done ? " (as before)" : "");
    }
  }

  const RepositoryOptions& options_;
  const std::vector<std::string> models_;
  std::vector<Outcome> outcomes_;  // each written by the thread that takes the model
  std::atomic<size_t> next_{0};
  std::shared_mutex quiet_;  // held shared by work, alone by timing
  std::mutex mutex_;
  ProgressBar bar_;  // guarded by mutex_
  size_t done_ = 0;  // guarded by mutex_
};

}  // namespace

Result<int> ShrinkRepository(const RepositoryOptions& options) {
  MINIM_TRY(const auto layout, serve::RepositoryLayout::Open(options.folder, false));
  std::vector<std::string> models = layout.ModelNames();
  return RepositoryRun(options, std::move(models)).Run();
}

}  // namespace minim
