#include "apps/shrink_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/svg.h"

namespace minim {
namespace {

using nlohmann::json;

constexpr size_t kMostOps = 40, kMostValues = 60, kMostNames = 6;  // shown

std::optional<double> Number(const json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return {};
  return found->get<double>();
}

std::string Text(const json& object, const char* key) {
  if (!object.is_object()) return "";
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

const json& List(const json& object, const char* key) {
  static const json kNone = json::array();
  if (!object.is_object()) return kNone;
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? *found : kNone;
}

std::vector<double> Numbers(const json& object, const char* key) {
  std::vector<double> numbers;
  for (const json& value : List(object, key))
    if (value.is_number()) numbers.push_back(value.get<double>());
  return numbers;
}

// How a metric is read: its name, whether less is better, and whether it is a share.
struct Metric {
  explicit Metric(const json& report) : name(Text(report, "metric")) {
    if (name.empty()) name = "accuracy";
    for (const char* other : {"log-loss", "mse", "mae", "kl"}) lower_is_better |= name == other;
    share = name == "accuracy" || name == "agreement" || name.starts_with("top-");
  }
  std::optional<double> Of(const json& variant) const {
    const auto value = Number(variant, "metric");
    return value ? value : Number(variant, "accuracy");
  }
  std::string Print(double value) const {
    return share ? fmt::format("{:.2f} %", value * 100) : fmt::format("{:.5g}", value);
  }
  double Shown(double value) const { return share ? value * 100 : value; }
  std::string Label() const { return share ? name + ", %" : name; }

  std::string name;
  bool lower_is_better = false, share = false;
};

bool Kept(const json& variant) {
  const auto found = variant.find("kept");
  return found == variant.end() || !found->is_boolean() || found->get<bool>();
}

// The worst metric that the budget allows; of a metric that is 0 at best the budget is no share.
std::optional<Limit> BudgetLimit(const json& report, const Metric& metric) {
  const auto budget = Number(report, "max_loss");
  const json& variants = List(report, "variants");
  const auto reference = variants.empty() ? std::nullopt : metric.Of(variants[0]);
  if (!budget || !reference) return {};
  const double room = *budget * (*reference == 0 ? 1 : std::fabs(*reference));
  const double worst = metric.lower_is_better ? *reference + room : *reference - room;
  return Limit{"budget", metric.Shown(worst)};
}

// The points that no other kept one beats in both, from cheap to dear.
std::vector<std::pair<double, double>> Frontier(const std::vector<Point>& points,
                                                bool lower_is_better) {
  std::vector<std::pair<double, double>> line;
  for (const Point& p : points)
    if (!p.hollow) line.emplace_back(p.x, p.y);
  std::sort(line.begin(), line.end(), [&](const auto& a, const auto& b) {
    if (a.first != b.first) return a.first < b.first;
    return lower_is_better ? a.second < b.second : a.second > b.second;
  });
  std::vector<std::pair<double, double>> best;
  for (const auto& point : line) {
    const bool better = best.empty() || (lower_is_better ? point.second < best.back().second
                                                         : point.second > best.back().second);
    if (better) best.push_back(point);
  }
  return best;
}

std::string FrontierChart(const json& report, const char* cost, double unit,
                          const std::string& cost_label) {
  const Metric metric(report);
  Scatter scatter{.title = metric.name + " against " + cost_label,
                  .x_label = cost_label,
                  .y_label = metric.Label()};
  for (const json& v : List(report, "variants")) {
    const auto x = Number(v, cost), y = metric.Of(v);
    if (!x || !y || *x <= 0) continue;
    scatter.points.push_back(
        {.name = Text(v, "name"), .x = *x / unit, .y = metric.Shown(*y), .hollow = !Kept(v)});
  }
  if (scatter.points.empty()) return "";
  scatter.line = Frontier(scatter.points, metric.lower_is_better);
  scatter.limit = BudgetLimit(report, metric);
  return ScatterChart(scatter);
}

std::string IntervalText(const json& v) {
  const auto loss = Number(v, "relative_loss");
  const std::vector<double> interval = Numbers(v, "relative_loss_interval_95");
  if (!loss) return "";
  if (interval.size() != 2) return fmt::format("{:.2f} %", *loss * 100);
  return fmt::format("{:.2f} % [{:.2f}, {:.2f}]", *loss * 100, interval[0] * 100,
                     interval[1] * 100);
}

std::string NumberText(const json& v, const char* key, const char* form, double unit = 1) {
  const auto number = Number(v, key);
  return number ? fmt::format(fmt::runtime(form), *number / unit) : "";
}

std::string FloatOps(const json& v) {
  const json& names = List(v, "float_ops");
  std::string text = names.empty() ? "" : fmt::format("{}: ", names.size());
  for (size_t i = 0; i < std::min(names.size(), kMostNames); ++i)
    if (names[i].is_string()) text += (i > 0 ? ", " : "") + names[i].get<std::string>();
  return text + (names.size() > kMostNames ? ", ..." : "");
}

struct Column {
  std::string head;
  std::function<std::string(const json&)> cell;
};

// A row for each object of the list; a column of which none has anything is left out.
std::string TableOf(const json& list, const std::vector<Column>& columns) {
  std::vector<std::string> rows(list.size() + 1);
  for (const Column& column : columns) {
    std::vector<std::string> cells;
    for (const json& object : list) cells.push_back(column.cell(object));
    if (std::all_of(cells.begin(), cells.end(), [](const auto& c) { return c.empty(); })) continue;
    rows[0] += "<th>" + EscapeHtml(column.head) + "</th>";
    for (size_t i = 0; i < cells.size(); ++i)
      rows[i + 1] += "<td>" + EscapeHtml(cells[i]) + "</td>";
  }
  std::string table = "<table>";
  for (const std::string& row : rows) table += "<tr>" + row + "</tr>\n";
  return table + "</table>\n";
}

Column TextColumn(const std::string& head, const char* key) {
  return {head, [=](const json& object) { return Text(object, key); }};
}

Column NumberColumn(const std::string& head, const char* key, const char* form, double unit = 1) {
  return {head, [=](const json& object) { return NumberText(object, key, form, unit); }};
}

std::string ShrinkTable(const json& report) {
  const Metric metric(report);
  const auto value_of = [&](const json& v) {
    const auto value = metric.Of(v);
    return value ? metric.Print(*value) : "";
  };
  return TableOf(List(report, "variants"),
                 {TextColumn("variant", "name"),
                  TextColumn("verdict", "verdict"),
                  {metric.name, value_of},
                  {"relative loss, 95 % interval", IntervalText},
                  NumberColumn("same class", "agreement", "{:.2f} %", 0.01),
                  NumberColumn("probability apart", "confidence_difference", "{:.4f}"),
                  NumberColumn("bytes", "bytes", "{:.0f}"),
                  NumberColumn("times smaller", "compression", "{:.2f}"),
                  NumberColumn("us, batch 1", "latency_us_batch_1", "{:.1f}"),
                  NumberColumn("us, batch 32", "latency_us_batch_32", "{:.1f}"),
                  NumberColumn("arena KiB, batch 1", "arena_bytes_batch_1", "{:.1f}", 1024),
                  NumberColumn("arena KiB, batch 32", "arena_bytes_batch_32", "{:.1f}", 1024),
                  TextColumn("how", "detail"),
                  {"left in FP32", FloatOps},
                  TextColumn("", "reason")});
}

// What 16 bits do to the weights of the variants that store them so.
std::string StoredTables(const json& report) {
  std::string tables;
  for (const json& v : List(report, "variants")) {
    const json& stored = List(v, "stored_weights");
    if (stored.empty()) continue;
    tables += "<details><summary>Weights of " + EscapeHtml(Text(v, "name")) + "</summary>" +
              TableOf(stored,
                      {TextColumn("weights", "name"), NumberColumn("largest", "max_abs", "{:.4g}"),
                       NumberColumn("smallest but 0", "smallest_nonzero", "{:.3g}"),
                       NumberColumn("become infinite", "overflow", "{:.0f}"),
                       NumberColumn("become 0", "underflow", "{:.0f}"),
                       NumberColumn("relative error", "relative_rms_error", "{:.2e}")}) +
              "</details>\n";
  }
  return tables.empty() ? "" : "<h2>Weights in 16 bits</h2>\n" + tables;
}

// The gate's picture: a variant is in when its whole interval is left of the budget.
std::string LossChart(const json& report) {
  std::vector<Row> rows;
  const json& variants = List(report, "variants");
  for (size_t i = 1; i < variants.size(); ++i) {  // the first is the reference
    const json& v = variants[i];
    const auto loss = Number(v, "relative_loss");
    if (!loss) continue;
    Row row{.bar = {.name = Text(v, "name"), .value = *loss * 100},
            .text = Text(v, "verdict"),
            .faint = !Kept(v)};
    const std::vector<double> interval = Numbers(v, "relative_loss_interval_95");
    if (interval.size() == 2) {
      row.bar.low = interval[0] * 100;
      row.bar.high = interval[1] * 100;
    }
    rows.push_back(std::move(row));
  }
  if (rows.empty()) return "";
  std::optional<Limit> limit;
  if (const auto budget = Number(report, "max_loss")) limit = Limit{"budget", *budget * 100};
  return RowChart("Relative loss of " + Metric(report).name + ", 95 % interval", "%", rows, limit);
}

// Medians, with a line up to the 99th percentile where the report has it.
std::string LatencyChart(const json& report, int batch) {
  std::vector<Row> rows;
  for (const json& v : List(report, "variants")) {
    const auto median = Number(v, fmt::format("latency_us_batch_{}", batch).c_str());
    const auto p99 = Number(v, fmt::format("p99_us_batch_{}", batch).c_str());
    if (!median || *median <= 0) continue;
    Row row{.bar = {.name = Text(v, "name"), .value = *median}, .faint = !Kept(v)};
    row.text = fmt::format("{:.5g}", *median);
    if (p99) {
      row.text += fmt::format(" / {:.5g}", *p99);
      row.bar.low = *median;
      row.bar.high = std::max(*median, *p99);
    }
    rows.push_back(std::move(row));
  }
  if (rows.empty()) return "";
  double edge = 0;  // what a busy machine did to a few runs shall not hide the medians
  for (const Row& row : rows) edge = std::max(edge, 2 * row.bar.value);
  for (Row& row : rows) row.bar.high = std::min(row.bar.high, edge);
  return RowChart(fmt::format("Latency at batch {}: median / 99th percentile", batch),
                  "microseconds", rows);
}

std::string BytesChart(const json& report, const char* key, const std::string& title) {
  std::vector<Row> rows;
  for (const json& v : List(report, "variants"))
    if (const auto bytes = Number(v, key))
      rows.push_back({.bar = {.name = Text(v, "name"), .value = *bytes / 1024}, .faint = !Kept(v)});
  return rows.empty() ? "" : RowChart(title, "KiB", rows);
}

std::string SensitivityChart(const json& report) {
  std::vector<Row> rows;
  for (const json& op : List(report, "sensitivity")) {
    const auto error = Number(op, "error"), saved = Number(op, "saved_us");
    if (!error) continue;
    std::string name = Text(op, "op");
    if (name.ends_with("_output_0")) name.resize(name.size() - 9);  // as PyTorch names values
    Row row{.bar = {.name = name, .value = *error * 100}};
    row.text = fmt::format("{:.3g} %", *error * 100);
    if (saved) row.text += fmt::format(", {:+.1f} us", -*saved);
    if (const std::string kind = Text(op, "kind"); !kind.empty()) row.bar.name += " " + kind;
    rows.push_back(std::move(row));
  }
  if (rows.empty()) return "";
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Row& a, const Row& b) { return a.bar.value > b.bar.value; });
  const size_t all = rows.size();
  rows.resize(std::min(all, kMostOps));
  return "<h2>Sensitivity</h2><p>How far the output moves, relative to its size, when only this op "
         "is INT8, and what that does to the time of a run" +
         (all > kMostOps ? fmt::format("; the {} worst of {} ops", kMostOps, all) : "") +
         ".</p>\n" + RowChart("Error of the output, op by op", "%", rows);
}

std::string SpreadCharts(const json& report) {
  std::string charts;
  size_t all = 0;
  for (const json& value : List(report, "calibration")) {
    const auto low = Number(value, "min"), high = Number(value, "max");
    Spread spread{.name = Text(value, "value"), .counts = Numbers(value, "histogram")};
    if (!low || !high || spread.counts.empty() || ++all > kMostValues) continue;
    spread.low = *low;
    spread.high = *high;
    spread.after = Numbers(value, "quantized_histogram");
    const auto chosen_low = Number(value, "low"), chosen_high = Number(value, "high");
    if (chosen_low && chosen_high) spread.chosen = {*chosen_low, *chosen_high};
    charts += SpreadChart(spread);
  }
  if (charts.empty()) return "";
  return "<h2>Values during calibration</h2><p>Logarithmic heights; red lines mark the range that "
         "8 "
         "bits cover, orange what quantization makes of the values" +
         (all > kMostValues ? fmt::format("; the first {} of {}", kMostValues, all) : "") +
         ".</p>\n<div class=\"grid\">\n" + charts + "</div>\n";
}

std::string Summary(const json& report) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : "; ") + part; };
  if (const std::string tier = Text(report, "preferred_tier"); !tier.empty())
    add("Served by default: " + tier);
  if (const std::string goal = Text(report, "goal"); !goal.empty()) add("goal: " + goal);
  if (const auto loss = Number(report, "max_loss"))
    add(fmt::format("budget: {:.3g} % of {}", *loss * 100, Metric(report).name));
  if (const auto count = Number(report, "samples")) add(fmt::format("{:.0f} samples", *count));
  if (const auto count = Number(report, "calibration_samples"))
    add(fmt::format("calibrated on {:.0f}", *count));
  if (const auto seed = Number(report, "seed")) add(fmt::format("seed {:.0f}", *seed));
  std::string summary = text.empty() ? "" : "<p>" + EscapeHtml(text) + ".</p>\n";
  for (const json& warning : List(report, "warnings"))
    if (warning.is_string())
      summary += "<p><b>Warning:</b> " + EscapeHtml(warning.get<std::string>()) + "</p>\n";
  return summary;
}

}  // namespace

std::string ShrinkSections(const json& report) {
  if (List(report, "variants").empty()) return "";
  return Summary(report) + ShrinkTable(report) +
         FrontierChart(report, "latency_us_batch_1", 1, "microseconds at batch 1") +
         FrontierChart(report, "bytes", 1024, "KiB of the file") + LossChart(report) +
         LatencyChart(report, 1) + LatencyChart(report, 32) +
         BytesChart(report, "bytes", "Size of the file") +
         BytesChart(report, "arena_bytes_batch_32", "Memory of a run's values at batch 32") +
         SensitivityChart(report) + SpreadCharts(report) + StoredTables(report);
}

std::string ShrinkPage(const json& report) {
  return PageHead("minim shrink") + ShrinkSections(report) + "</html>\n";
}

Status WriteShrinkPage(const Path& report) {
  MINIM_TRY(const std::string text, ReadFile(report, 64 << 20));
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return DataLoss("{}: is no JSON object", report.string());
  return WriteFileAtomic(report.parent_path() / "report.html", ShrinkPage(root));
}

}  // namespace minim
