#include "exec/tune.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "core/stats.h"
#include "exec/batch_rows.h"
#include "exec/cpu/bind.h"
#include "exec/cpu/executable.h"

namespace minim {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kGain = 0.97;   // of the time: less is noise
constexpr size_t kMostRows = 5;  // of the table, for one step
constexpr int kFewestTurns = 3;

// One choice, ready to run.
class Trial {
 public:
  // `slices` as of SliceBatch.
  static Result<std::unique_ptr<Trial>> Make(Graph graph, int64_t slices, const Tuning& tuning,
                                             const Runtime& runtime, int threads) {
    auto trial = std::make_unique<Trial>();
    trial->runtime_ = std::make_shared<Runtime>(runtime, tuning);
    trial->threads_ = threads;
    MINIM_TRY(trial->executable_,
              slices > 1
                  ? Executable::BuildSliced(std::move(graph), slices, trial->runtime_, threads)
                  : Executable::Build(std::move(graph), trial->runtime_, threads));
    for (size_t i = 0; i < trial->executable_->graph().outputs.size(); ++i) {
      const TensorType& type = trial->executable_->output_type(i);
      trial->outputs_.emplace_back(type.dtype, type.dims());
      trial->pointers_.push_back(trial->outputs_.back().data());
    }
    return trial;
  }

  const Executable& executable() const { return *executable_; }
  double median() const { return Percentile(samples_, 0.5); }

  Status Run(ExecContext& context, std::span<const void* const> inputs) {
    const auto start = Clock::now();
    MINIM_TRY(executable_->Run(context, Args(inputs)));
    samples_.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
    return {};
  }
  // Microseconds of each step of one run.
  Result<std::vector<double>> RunSteps(ExecContext& context, std::span<const void* const> inputs) {
    return executable_->StepMedians(context, Args(inputs), 1);
  }

 private:
  RunArgs Args(std::span<const void* const> inputs) {
    return {.inputs = inputs, .outputs = pointers_, .threads = {&runtime_->pool(), threads_}};
  }

  std::shared_ptr<Runtime> runtime_;
  std::unique_ptr<Executable> executable_;
  int threads_ = 1;
  std::vector<Tensor> outputs_;
  std::vector<void*> pointers_;
  std::vector<double> samples_;  // microseconds
};

class Tuner {
 public:
  Tuner(const Graph& graph, std::span<const void* const> inputs, const Runtime& runtime,
        int threads, double seconds)
      : graph_(graph), inputs_(inputs), runtime_(runtime), threads_(threads), seconds_(seconds) {}

  Result<TuneReport> Run() {
    MINIM_TRY(MeasureRows());
    MINIM_TRY(MeasureSteps());
    MINIM_TRY(Judge());
    return std::move(report_);
  }

 private:
  using Trials = std::vector<std::unique_ptr<Trial>>;

  // The steps of a graph that are alike.
  struct Alike {
    std::string op;
    std::vector<size_t> nodes;
    std::vector<std::string_view> rows;      // that they could run by, the cost models' first
    std::vector<std::vector<double>> times;  // by row; of all the nodes, in microseconds
  };

  Result<std::unique_ptr<Trial>> Make(int64_t together, const Tuning& tuning) const {
    Graph own = graph_;
    const int64_t slices = SliceBatch(own, together);
    return Trial::Make(std::move(own), slices, tuning, runtime_, threads_);
  }

  // run(trial, its index) of each in turn, for a third of the time; the first turn is none.
  template <typename F>
  Status TakeTurns(const Trials& trials, F&& run) {
    for (const auto& trial : trials) {
      MINIM_TRY(trial->RunSteps(context_, inputs_).status());
    }
    const auto end = Clock::now() + std::chrono::duration<double>(seconds_ / 3);
    for (int turn = 0; turn < kFewestTurns || Clock::now() < end; ++turn)
      for (size_t i = 0; i < trials.size(); ++i) {
        MINIM_TRY(run(*trials[i], i));
      }
    return {};
  }

  Status MeasureRows() {
    rows_ = IndependentRows(graph_);
    if (rows_ < 2) return {};
    by_model_ = together_ = RowsTogether(graph_, rows_, threads_);
    std::vector<int64_t> candidates{by_model_};
    for (int64_t together = 1; together <= rows_; ++together)
      if (rows_ % together == 0 && together != by_model_) candidates.push_back(together);
    Trials trials;
    for (const int64_t together : candidates) {
      MINIM_TRY(trials.emplace_back(), Make(together, {}));
    }
    MINIM_TRY(
        TakeTurns(trials, [&](Trial& trial, size_t) { return trial.Run(context_, inputs_); }));
    const double model = trials[0]->median();
    double best = kGain * model;
    for (size_t i = 1; i < trials.size(); ++i) {
      if (trials[i]->median() >= best) continue;
      best = trials[i]->median();
      together_ = candidates[i];
    }
    if (together_ != by_model_)
      report_.text =
          fmt::format("{} of {} rows together: {:.1f} us; {} by the cost model: {:.1f}\n",
                      together_, rows_, best, by_model_, model);
    return {};
  }

  // The steps of `graph`, which `trial` runs by the cost models' choice, by signature.
  std::map<std::string, Alike> StepsOf(const Graph& graph, const Trial& trial, int threads) {
    std::map<std::string, Alike> steps;
    Runtime runtime(runtime_, Tuning());
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      const std::string_view chosen = trial.executable().row(i);
      if (chosen.empty()) continue;
      Alike& alike = steps[StepSignature(graph, graph.nodes[i], threads)];
      alike.nodes.push_back(i);
      if (alike.nodes.size() > 1) continue;
      alike.op = graph.nodes[i].op;
      alike.rows.push_back(chosen);
      for (const std::string_view row : RowsFor(graph, graph.nodes[i], runtime, threads))
        if (row != chosen && alike.rows.size() < kMostRows) alike.rows.push_back(row);
      alike.times.resize(alike.rows.size());
    }
    return steps;
  }

  // Each trial has another row for every step that could run by as many.
  Status MeasureSteps() {
    Graph graph = graph_;
    const int64_t slices = SliceBatch(graph, together_);
    Trials trials;
    MINIM_TRY(trials.emplace_back(), Trial::Make(graph, slices, {}, runtime_, threads_));
    std::map<std::string, Alike> steps = StepsOf(graph, *trials[0], slices > 1 ? 1 : threads_);
    size_t most = 0;
    for (const auto& [step, alike] : steps) most = std::max(most, alike.rows.size());
    for (size_t k = 1; k < most; ++k) {
      Tuning tuning;
      for (const auto& [step, alike] : steps)
        if (k < alike.rows.size()) tuning.SetRow(step, alike.rows[k]);
      MINIM_TRY(trials.emplace_back(), Trial::Make(graph, slices, tuning, runtime_, threads_));
    }
    MINIM_TRY(TakeTurns(trials, [&](Trial& trial, size_t k) -> Status {
      MINIM_TRY(const std::vector<double> times, trial.RunSteps(context_, inputs_));
      std::vector<double> by_node(graph.nodes.size());
      for (size_t i = 0; i < times.size(); ++i)
        if (const int node = trial.executable().plan().steps[i].node; node >= 0)
          by_node[static_cast<size_t>(node)] = times[i];
      for (auto& [step, alike] : steps) {
        if (k >= alike.rows.size()) continue;
        double sum = 0;
        for (const size_t node : alike.nodes) sum += by_node[node];
        alike.times[k].push_back(sum);
      }
      return {};
    }));
    for (const auto& [step, alike] : steps) Choose(step, alike);
    return {};
  }

  void Choose(const std::string& step, const Alike& alike) {
    const double model = Percentile(alike.times[0], 0.5);
    double best = kGain * model;
    std::string_view row;
    for (size_t k = 1; k < alike.rows.size(); ++k) {
      const double time = Percentile(alike.times[k], 0.5);
      if (time >= best) continue;
      best = time;
      row = alike.rows[k];
    }
    report_.found.SetRow(step, row);
    if (!row.empty())
      report_.text += fmt::format("{} x {}: {} takes {:.1f} us; {}, by the cost model, {:.1f}\n",
                                  alike.nodes.size(), alike.op, row, best, alike.rows[0], model);
  }

  // All choices at once against none; choices that are the models' have nothing to gain, however
  // much faster the second of two equal runs may be.
  Status Judge() {
    Trials trials;
    MINIM_TRY(trials.emplace_back(), Make(by_model_, {}));
    MINIM_TRY(trials.emplace_back(), Make(together_, report_.found));
    MINIM_TRY(
        TakeTurns(trials, [&](Trial& trial, size_t) { return trial.Run(context_, inputs_); }));
    report_.model_us = report_.measured_us = trials[0]->median();
    const bool better = !report_.text.empty() && trials[1]->median() < kGain * trials[0]->median();
    if (better) {
      report_.measured_us = trials[1]->median();
    } else {
      report_.text.clear();
      report_.found.PreferModels();
    }
    if (rows_ > 1)
      report_.found.SetRowsTogether(BatchSignature(graph_, threads_),
                                    better ? together_ : by_model_);
    return {};
  }

  const Graph& graph_;
  const std::span<const void* const> inputs_;
  const Runtime& runtime_;
  const int threads_;
  const double seconds_;
  int64_t rows_ = 1, by_model_ = 1, together_ = 1;  // of the batch
  ExecContext context_;
  TuneReport report_;
};

}  // namespace

Result<TuneReport> TuneGraph(const Graph& graph, std::span<const void* const> inputs,
                             const Runtime& runtime, int threads, double seconds) {
  return Tuner(graph, inputs, runtime, threads, seconds).Run();
}

}  // namespace minim
