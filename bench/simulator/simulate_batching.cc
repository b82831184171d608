// Replays arrivals against every batching policy and the offline oracle, in virtual time; writes
// Markdown tables to standard output and a page of charts. bench/batching runs it.
//   minim_simulate_batching [REQUESTS [PAGE.html]]
#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <numeric>

#include "apps/svg.h"
#include "apps/arrivals.h"
#include "bench/simulator/oracle.h"
#include "bench/simulator/simulator.h"

namespace minim {
namespace {

using serve::FindBatchPolicy;
using serve::FromSeconds;

constexpr int64_t kCap = 50;
constexpr double kLoads[] = {0.5, 0.8, 1.0, 1.2, 2.0};
constexpr size_t kLoadCount = std::size(kLoads);

// latency(rows), as lines between points, and the target that goes with it.
struct Shape {
  const char* name;
  double target_ms;
  std::vector<std::pair<double, double>> points;  // rows, ms

  double Seconds(int64_t rows) const {
    const auto n = static_cast<double>(rows);
    size_t i = 1;
    while (i + 1 < points.size() && points[i].first < n) ++i;
    const auto [r0, t0] = points[i - 1];
    const auto [r1, t1] = points[i];
    return (t0 + (t1 - t0) * (n - r0) / (r1 - r0)) / 1e3;
  }
  double target() const { return target_ms / 1e3; }
  // The most rows per second that can all be in time when each waits for the run before its own.
  double Capacity() const {
    double best = 1 / Seconds(1);
    for (int64_t n = 1; n <= kCap; ++n)
      if (2 * Seconds(n) <= target()) best = std::max(best, static_cast<double>(n) / Seconds(n));
    return best;
  }
};

Shape Line(const char* name, double a_ms, double b_ms, double target_ms) {
  return {name, target_ms, {{1, a_ms + b_ms}, {50, a_ms + 50 * b_ms}}};
}

const std::vector<Shape>& Shapes() {
  static const std::vector<Shape> shapes = {
      Line("2 + 0.2 n ms", 2, 0.2, 50),
      Line("5 + 0.1 n ms", 5, 0.1, 50),
      Line("0.5 + 0.5 n ms", 0.5, 0.5, 50),
      Line("10 + 0.2 n ms", 10, 0.2, 50),
      Line("0.2 + 0.3 n ms", 0.2, 0.3, 20),
      Line("18 + 0.1 n ms", 18, 0.1, 50),
      Line("20 + 0.2 n ms", 20, 0.2, 50),
      // minim on one thread of a Zen 5: small CNN on Fashion-MNIST; a step at 32 rows by hand.
      {"CNN, measured",
       10,
       {{1, .050}, {2, .070}, {4, .168}, {8, .273}, {16, .757}, {32, 1.33}, {50, 1.71}}},
      {"a step after 32", 50, {{1, 4}, {32, 6}, {33, 11}, {50, 12}}},
  };
  return shapes;
}

struct Case {
  const Shape& shape;
  Arrivals arrivals;
  std::vector<SimulatedRequest> requests;
};

Case MakeCase(const Shape& shape, const ArrivalKind& kind, double load, int64_t count) {
  Case made{shape,
            kind.make({.per_second = load * shape.Capacity(),
                       .count = count,
                       .scale_seconds = shape.target(),
                       .seed = 20}),
            {}};
  for (const double at : made.arrivals) made.requests.push_back({.arrival = at});
  return made;
}

Simulation Replay(const Case& c, std::string_view policy, int64_t size = kCap, double window = 0,
                  double noise = 0) {
  SimulationOptions options{.run_seconds = [&](int64_t rows) { return c.shape.Seconds(rows); },
                            .noise = noise};
  options.settings.policy = *FindBatchPolicy(policy);
  options.settings.bounds.min_batch = 1;
  options.settings.bounds.max_batch = size;
  options.settings.bounds.window = FromSeconds(window);
  options.settings.bounds.latency_target = FromSeconds(c.shape.target());
  return Simulate(options, c.requests);
}

double Goodput(const Case& c, const Simulation& simulation) {
  return static_cast<double>(simulation.InTime(c.shape.target())) / simulation.end;
}

// The settings that are tried, all told: 50 sizes and 101 windows.
struct Setting {
  std::string_view policy;
  int64_t size = kCap;
  double window = 0;
};
std::vector<Setting> Settings() {
  std::vector<Setting> all;
  for (int64_t size = 1; size <= kCap; ++size) all.push_back({"fixed-size", size});
  for (int ms = 0; ms <= 100; ++ms) all.push_back({"time-window", kCap, ms / 1e3});
  return all;
}

// Requests answered in time, by load.
using InTime = std::array<double, kLoadCount>;
double Total(const InTime& in_time) { return std::accumulate(in_time.begin(), in_time.end(), 0.0); }

struct Measured {
  InTime oracle{}, adaptive{}, noisy{}, conserving{}, p99{};
  std::vector<InTime> settings = std::vector<InTime>(Settings().size());
  double peak = 0, overload = 0;  // goodput of adaptive: the best, and at twice the capacity
  double queued = 0;              // rows at most, as a part of what fits into the target
};

Measured Measure(const Shape& shape, const ArrivalKind& kind, int64_t count) {
  Measured line;
  std::vector<double> run_seconds;
  for (int64_t n = 1; n <= kCap; ++n) run_seconds.push_back(shape.Seconds(n));
  const std::vector<Setting> settings = Settings();
  for (size_t i = 0; i < kLoadCount; ++i) {
    const Case c = MakeCase(shape, kind, kLoads[i], count);
    const auto in_time = [&](const Simulation& s) {
      return static_cast<double>(s.InTime(shape.target()));
    };
    line.oracle[i] = static_cast<double>(OracleInTime(c.arrivals, shape.target(), run_seconds));
    const Simulation adaptive = Replay(c, "adaptive");
    line.adaptive[i] = in_time(adaptive);
    line.p99[i] = adaptive.LatencyQuantile(0.99) / shape.target();
    line.overload = Goodput(c, adaptive);
    line.peak = std::max(line.peak, line.overload);
    line.queued = std::max(line.queued, static_cast<double>(adaptive.most_queued_rows) /
                                            (shape.target() * shape.Capacity()));
    line.noisy[i] = in_time(Replay(c, "adaptive", kCap, 0, 0.1));
    line.conserving[i] = in_time(Replay(c, "work-conserving"));
    for (size_t s = 0; s < settings.size(); ++s)
      line.settings[s][i] =
          in_time(Replay(c, settings[s].policy, settings[s].size, settings[s].window));
  }
  return line;
}

std::string Percents(const InTime& part, const InTime& of) {
  std::string text;
  for (size_t i = 0; i < kLoadCount; ++i) text += fmt::format(" {:.0f}", 100 * part[i] / of[i]);
  return text;
}

// The best of the settings [from, to) by total; returns its index.
size_t BestOf(const Measured& line, size_t from, size_t to) {
  size_t best = from;
  for (size_t s = from; s < to; ++s)
    if (Total(line.settings[s]) > Total(line.settings[best])) best = s;
  return best;
}

void PrintRow(const Shape& shape, const ArrivalKind& kind, const Measured& line) {
  const std::vector<Setting> settings = Settings();
  const size_t size = BestOf(line, 0, kCap), window = BestOf(line, kCap, settings.size());
  const auto beaten =
      std::count_if(line.settings.begin(), line.settings.end(),
                    [&](const InTime& s) { return Total(line.adaptive) > Total(s); });
  fmt::print(
      "| {} | {:.0f} | {} |{} |{} |{} |{} ({}) |{} ({:.0f}) | {} | {:.0f} | {:.2f} | {:.1f} |\n",
      shape.name, shape.target_ms, kind.name, Percents(line.adaptive, line.oracle),
      Percents(line.noisy, line.oracle), Percents(line.conserving, line.oracle),
      Percents(line.settings[size], line.oracle), settings[size].size,
      Percents(line.settings[window], line.oracle), settings[window].window * 1e3, beaten,
      100 * line.overload / line.peak, *std::max_element(line.p99.begin(), line.p99.end()),
      line.queued);
  std::fflush(stdout);
}

std::string Chart(const Shape& shape, const ArrivalKind& kind, const Measured& line, double count) {
  const std::vector<Setting> settings = Settings();
  const auto series = [&](std::string name, const InTime& in_time) {
    Series s{std::move(name), {}, {}};
    for (size_t i = 0; i < kLoadCount; ++i) {
      s.x.push_back(kLoads[i]);
      s.y.push_back(in_time[i] / count * kLoads[i]);
    }
    return s;
  };
  const size_t size = BestOf(line, 0, kCap), window = BestOf(line, kCap, settings.size());
  return LineChart(fmt::format("{}, {}", shape.name, kind.name), "load, of the capacity",
                   "answered in time, of the capacity",
                   {series("oracle", line.oracle), series("adaptive", line.adaptive),
                    series("work-conserving", line.conserving),
                    series(fmt::format("fixed-size {}", settings[size].size), line.settings[size]),
                    series(fmt::format("time-window {:.0f} ms", settings[window].window * 1e3),
                           line.settings[window])});
}

int Run(int64_t count, const std::string& page) {
  std::string charts = PageHead("Batching policies against the oracle");
  fmt::print(
      "Answers in time as a percentage of the oracle's, at loads of 0.5, 0.8, 1.0, 1.2 and 2.0 of "
      "the "
      "capacity; {} requests each.\n\n",
      count);
  fmt::print(
      "| latency(n) | target ms | arrivals | adaptive | with noise | work-conserving | best fixed "
      "size "
      "(which) | best window (which) | settings beaten of 151 | 2x, % of peak | p99 / target | "
      "queue "
      "/ target |\n| --- | ---: | --- | --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: "
      "|\n");
  for (const Shape& shape : Shapes()) {
    for (const ArrivalKind& kind : ArrivalKinds()) {
      const Measured line = Measure(shape, kind, count);
      PrintRow(shape, kind, line);
      charts += Chart(shape, kind, line, static_cast<double>(count));
    }
  }
  if (page.empty()) return 0;
  std::ofstream file(page);
  file << charts;
  return file.good() ? 0 : 1;
}

}  // namespace
}  // namespace minim

int main(int argc, char** argv) {
  const int64_t count = argc > 1 ? std::atoll(argv[1]) : 10000;
  if (count < 1) {
    fmt::print(stderr, "usage: minim_simulate_batching [REQUESTS [PAGE.html]]\n");
    return 2;
  }
  return minim::Run(count, argc > 2 ? argv[2] : "");
}
