// minim report: one HTML page from the logs of train, shrink and bench.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/cli.h"
#include "apps/shrink_page.h"
#include "apps/svg.h"
#include "apps/train_page.h"
#include "core/file.h"
#include "data/dataset.h"

namespace minim {
namespace {

using nlohmann::json;

struct Options {
  std::string train_log, shrink, out = "report.html";
  std::vector<std::string> benches;  // NAME=FILE, JSON of `minim bench --url --json`
  std::string samples, labels, class_names;
};

struct Bench {
  std::string name;
  json data;
};

Result<json> ReadJson(const std::string& path) {
  MINIM_TRY(const std::string text, ReadFile(path, 64 << 20));
  json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return DataLoss("{}: is no JSON", path);
  return value;
}

Result<std::vector<Bench>> ReadBenches(const std::vector<std::string>& arguments) {
  std::vector<Bench> benches;
  for (const std::string& argument : arguments) {
    const size_t equals = argument.find('=');
    if (equals == std::string::npos)
      return InvalidArgument("--bench {}: expected NAME=FILE", argument);
    MINIM_TRY(json data, ReadJson(argument.substr(equals + 1)));
    benches.push_back({argument.substr(0, equals), std::move(data)});
  }
  return benches;
}

std::string LatencyChart(const std::vector<Bench>& benches) {
  std::vector<Series> samples;
  for (const Bench& bench : benches) {
    if (!bench.data.contains("latencies_us")) continue;
    samples.push_back(
        {.name = bench.name, .x = bench.data["latencies_us"].get<std::vector<double>>()});
  }
  return samples.empty()
             ? ""
             : Histogram("Latency as served, one request at a time", "microseconds", samples);
}

std::string BenchTable(const std::vector<Bench>& benches) {
  std::string rows;
  for (const Bench& bench : benches) {
    const json& d = bench.data;
    rows += fmt::format(
        "<tr><td>{}</td><td>{:.0f}</td><td>{:.0f}</td><td>{:.0f}</td><td>{:.2f}</td><td>{}</td></"
        "tr>\n",
        EscapeHtml(bench.name), d.value("p50_us", 0.0), d.value("p99_us", 0.0),
        d.value("requests_per_second", 0.0), d.value("mean_batch_rows", 0.0),
        d.contains("accuracy") ? fmt::format("{:.2f} %", d["accuracy"].get<double>() * 100) : "");
  }
  return "<table><tr><th>as served</th><th>p50 us</th><th>p99 us</th><th>requests/s</th><th>mean "
         "batch</th>"
         "<th>accuracy</th></tr>\n" +
         rows + "</table>\n";
}

// A sample as a picture of rectangles: no image format, no script.
std::string Picture(const Dataset& data, int64_t index, const std::string& caption, bool right) {
  const Dims& dims = data.samples.dims();
  const int64_t height = dims[dims.rank() - 2], width = dims[dims.rank() - 1];
  const int64_t order[] = {index};
  const Tensor pixels = GatherBatch(data, order).samples;
  std::string out = fmt::format(
      "<figure class=\"{}\"><svg viewBox=\"0 0 {} {}\" width=\"84\" height=\"84\">"
      "<rect width=\"100%\" height=\"100%\" fill=\"#000\"/>",
      right ? "right" : "wrong", width, height);
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const int grey = static_cast<int>(pixels.as<float>()[y * width + x]);
      if (grey > 0)
        out += fmt::format(
            "<rect x=\"{}\" y=\"{}\" width=\"1\" height=\"1\" fill=\"#{:02x}{:02x}{:02x}\"/>", x, y,
            grey, grey, grey);
    }
  }
  return out + fmt::format("</svg><figcaption>{}</figcaption></figure>\n", EscapeHtml(caption));
}

Result<std::string> Gallery(const Options& options, const std::vector<Bench>& benches) {
  constexpr size_t kShown = 24;
  const auto with_answers = std::find_if(benches.begin(), benches.end(),
                                         [](const Bench& b) { return b.data.contains("answers"); });
  if (options.samples.empty() || with_answers == benches.end()) return std::string();
  MINIM_TRY(const Dataset data, ReadDataset(options.samples, options.labels, {}));
  if (data.samples.dtype() != DType::u8 || data.samples.dims().rank() < 3) return std::string();
  std::vector<std::string> names;
  for (size_t at = 0; at < options.class_names.size();) {
    const size_t end = std::min(options.class_names.find(',', at), options.class_names.size());
    names.push_back(options.class_names.substr(at, end - at));
    at = end + 1;
  }
  const auto name = [&](int64_t id) {
    return id >= 0 && id < static_cast<int64_t>(names.size()) ? names[id] : std::to_string(id);
  };
  std::string out = "<h2>Test images as served (" + EscapeHtml(with_answers->name) +
                    ")</h2><div class=\"grid\">\n";
  const auto answers = with_answers->data["answers"].get<std::vector<int64_t>>();
  for (size_t i = 0; i < std::min({kShown, answers.size(), static_cast<size_t>(data.size())});
       ++i) {
    const int64_t label = data.labels.as<int64_t>()[i];
    out += Picture(data, static_cast<int64_t>(i),
                   answers[i] == label ? name(label) : name(answers[i]) + ", is " + name(label),
                   answers[i] == label);
  }
  return out + "</div>\n";
}

Status Write(const Options& options) {
  MINIM_TRY(const std::vector<Bench> benches, ReadBenches(options.benches));
  std::string page = PageHead("minim report");
  if (!options.shrink.empty()) {
    MINIM_TRY(const json shrink, ReadJson(options.shrink));
    if (!shrink.is_object() || !shrink.contains("variants"))
      return DataLoss("{}: is no report of minim shrink", options.shrink);
    page += ShrinkSections(shrink);
  }
  if (!benches.empty()) page += BenchTable(benches) + LatencyChart(benches);
  if (!options.train_log.empty()) {
    MINIM_TRY(const std::string chart, TrainCharts(options.train_log));
    page += chart;
  }
  MINIM_TRY(const std::string gallery, Gallery(options, benches));
  MINIM_TRY(WriteFileAtomic(options.out, page + gallery + "</html>\n"));
  fmt::print("wrote {}\n", options.out);
  return {};
}

}  // namespace

void AddReportCommand(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      AddVerb(app, "report", "Write an HTML page from the logs of train, shrink and bench",
              "minim report --train-log train.jsonl --shrink models/m/1/report.json "
              "--bench fp32=fp32.json --out report.html",
              exit_code, [o] {
                const Status status = Write(*o);
                return status.ok() ? 0 : Report(status);
              });
  verb->add_option("--train-log", o->train_log, "JSON lines of minim train");
  verb->add_option("--shrink", o->shrink, "report.json of minim shrink");
  verb->add_option("--bench", o->benches, "NAME=FILE: JSON of minim bench --url");
  verb->add_option("--samples", o->samples, "Test images (IDX or .npy, bytes) for the gallery");
  verb->add_option("--labels", o->labels, "Their labels");
  verb->add_option("--class-names", o->class_names, "Comma-separated");
  verb->add_option("--out", o->out, "HTML file")->capture_default_str();
}

}  // namespace minim
