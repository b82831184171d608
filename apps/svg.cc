#include "apps/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/stats.h"

namespace minim {
namespace {

constexpr double kWidth = 640, kHeight = 300, kLeft = 64, kRight = 16, kTop = 36, kBottom = 46;
constexpr const char* kColours[] = {"#2563eb", "#d97706", "#059669", "#7c3aed", "#dc2626"};
constexpr int kMostTicks = 8;

struct Scale {
  double low, high, from, to;
  double operator()(double v) const {
    return from + (high > low ? (v - low) / (high - low) : 0) * (to - from);
  }
};

Scale XScale(double low, double high) { return {low, high, kLeft, kWidth - kRight}; }
Scale YScale(double low, double high) { return {low, high, kHeight - kBottom, kTop}; }

std::string Open(const std::string& title, double height = kHeight, double left = kLeft) {
  return fmt::format(
      "<svg viewBox=\"0 0 {:.0f} {:.0f}\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" "
      "font-family=\"sans-serif\" font-size=\"12\"><title>{}</title>"
      "<text x=\"{:.0f}\" y=\"18\" font-size=\"14\" font-weight=\"bold\">{}</text>\n",
      kWidth, height, EscapeHtml(title), left, EscapeHtml(title));
}

// Round numbers within the scale.
std::vector<double> Ticks(const Scale& scale) {
  const double least = (scale.high - scale.low) / kMostTicks;
  if (!(least > 0) || !std::isfinite(least)) return {scale.low};
  const double power = std::pow(10, std::floor(std::log10(least)));
  double step = 10 * power;
  for (double digit : {5, 2, 1})
    if (digit * power >= least) step = digit * power;
  std::vector<double> ticks;
  const double first = std::ceil(scale.low / step) * step;
  for (int i = 0; i <= kMostTicks; ++i) {
    const double tick = first + i * step;
    if (tick <= scale.high + step * 1e-9) ticks.push_back(std::fabs(tick) < step / 2 ? 0 : tick);
  }
  return ticks;
}

std::string YAxis(const Scale& y, const std::string& label) {
  std::string out;
  for (double v : Ticks(y)) {
    const double at = y(v);
    out += fmt::format(
        "<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>"
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:.6g}</text>\n",
        kLeft, kWidth - kRight, at, at, kLeft - 6, at + 4, v);
  }
  return out +
         fmt::format(
             "<text transform=\"translate(14,{}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
             (kTop + kHeight - kBottom) / 2, EscapeHtml(label));
}

std::string XAxis(const Scale& x, const std::string& label, double height = kHeight) {
  std::string out;
  for (double v : Ticks(x)) {
    out += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.6g}</text>\n", x(v),
                       height - kBottom + 16, v);
  }
  return out + fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                           (x.from + x.to) / 2, height - 10, EscapeHtml(label));
}

std::string Legend(const std::vector<Series>& series) {
  std::string out;
  double x = kWidth - kRight;
  for (size_t i = series.size(); i-- > 0;) {
    out += fmt::format("<text x=\"{:.0f}\" y=\"18\" text-anchor=\"end\" fill=\"{}\">{}</text>\n", x,
                       kColours[i % std::size(kColours)], EscapeHtml(series[i].name));
    x -= 12 + 8.0 * static_cast<double>(series[i].name.size());
  }
  return out;
}

std::string Polyline(const Series& s, const Scale& x, const Scale& y, const char* colour) {
  std::string points;
  for (size_t i = 0; i < s.x.size(); ++i)
    points += fmt::format("{:.1f},{:.1f} ", x(s.x[i]), y(s.y[i]));
  return fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\"/>\n",
                     points, colour);
}

// The end of a name is what tells it from others.
std::string Clipped(const std::string& text, size_t most) {
  if (text.size() <= most) return text;
  size_t begin = text.size() - most;
  while (begin < text.size() && (text[begin] & 0xC0) == 0x80) ++begin;  // inside a UTF-8 character
  return "\u2026" + text.substr(begin);
}

// A range that holds all of `values`, with some air.
Scale Around(const std::vector<double>& values, double from, double to) {
  if (values.empty()) return {0, 1, from, to};
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const double span = *high - *low;
  const double air = span > 0 ? 0.08 * span : std::max(0.05 * std::fabs(*low), 1e-9);
  return {*low - air, *high + air, from, to};
}

std::string LimitLine(const Limit& limit, const Scale& y) {
  return fmt::format(
      "<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#dc2626\" "
      "stroke-dasharray=\"5 4\"/><text x=\"{}\" y=\"{:.1f}\" fill=\"#dc2626\">{}</text>\n",
      kLeft, kWidth - kRight, y(limit.at), y(limit.at), kLeft + 4, y(limit.at) - 4,
      EscapeHtml(limit.name));
}

// Writes labels beside points; one that would cover another moves up or down.
class Labels {
 public:
  std::string Write(double x, double y, const std::string& name) {
    constexpr double kStep = 13;
    Box box{.x = x + 8, .y = y + 4, .width = 7.0 * static_cast<double>(name.size())};
    if (box.x + box.width > kWidth - kRight) box.x = x - 8 - box.width;
    for (int i = 1; i < 12 && Covers(box); ++i)
      box.y = y + 4 + kStep * (i % 2 == 1 ? (i + 1) / 2 : -i / 2);
    placed_.push_back(box);
    return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", box.x, box.y,
                       EscapeHtml(name));
  }

 private:
  struct Box {
    double x, y, width;
  };
  bool Covers(const Box& box) const {
    return std::any_of(placed_.begin(), placed_.end(), [&](const Box& other) {
      return std::fabs(other.y - box.y) < 12 && other.x < box.x + box.width &&
             box.x < other.x + other.width;
    });
  }
  std::vector<Box> placed_;
};

constexpr double kRowHeight = 20, kTexts = 110;  // of a row chart
constexpr size_t kNameLetters = 44;

std::string RowAt(const Row& row, const Scale& x, double top) {
  const Bar& bar = row.bar;
  const double zero = x(0), end = x(bar.value);
  double right = std::max(zero, end);
  std::string out = fmt::format(
      "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\"><title>{}</title>{}</text>"
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{}\" fill=\"{}\"/>\n",
      x.from - 8, top + 14, EscapeHtml(bar.name), EscapeHtml(Clipped(bar.name, kNameLetters)),
      std::min(zero, end), top + 3, std::fabs(end - zero), kRowHeight - 6,
      row.faint ? "#cbd5e1" : kColours[0]);
  if (bar.high > bar.low) {
    right = std::max(right, x(bar.high));
    out += fmt::format(
        "<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#111\" "
        "stroke-width=\"2\"/>\n",
        x(bar.low), x(bar.high), top + kRowHeight / 2, top + kRowHeight / 2);
  }
  return out +
         fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", right + 6, top + 14,
                     row.text.empty() ? fmt::format("{:.4g}", bar.value) : EscapeHtml(row.text));
}

constexpr double kSpreadWidth = 200, kSpreadHeight = 110;
constexpr size_t kSpreadBins = 80;  // more cannot be told apart

std::vector<double> Merged(const std::vector<double>& counts) {
  const size_t every = (counts.size() + kSpreadBins - 1) / kSpreadBins;
  std::vector<double> merged;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (i % every == 0) merged.push_back(0);
    merged.back() += std::max(counts[i], 0.0);
  }
  return merged;
}

double Largest(const std::vector<double>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

// The outline of bins as high as the logarithms of their counts.
std::string Steps(const std::vector<double>& counts, double most, double bottom, double top) {
  std::string path = fmt::format("M0 {}", bottom);
  const double width = kSpreadWidth / static_cast<double>(counts.size());
  for (size_t i = 0; i < counts.size(); ++i)
    path += fmt::format(" V{:.1f} H{:.1f}",
                        bottom - (bottom - top) * std::log1p(counts[i]) / std::log1p(most),
                        width * static_cast<double>(i + 1));
  return path + fmt::format(" V{}", bottom);
}

}  // namespace

std::string EscapeHtml(const std::string& text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '&': out += "&amp;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string LineChart(const std::string& title, const std::string& x_label,
                      const std::string& y_label, const std::vector<Series>& series) {
  double x_high = 1e-9, y_high = 1e-9;
  for (const Series& s : series) {
    for (double v : s.x) x_high = std::max(x_high, v);
    for (double v : s.y) y_high = std::max(y_high, v);
  }
  const Scale x = XScale(0, x_high), y = YScale(0, y_high);
  std::string out = Open(title) + YAxis(y, y_label) + XAxis(x, x_label) + Legend(series);
  for (size_t i = 0; i < series.size(); ++i)
    out += Polyline(series[i], x, y, kColours[i % std::size(kColours)]);
  return out + "</svg>\n";
}

std::string BarChart(const std::string& title, const std::string& y_label,
                     const std::vector<Bar>& bars, double floor) {
  double high = floor + 1e-9;
  for (const Bar& bar : bars) high = std::max({high, bar.value, bar.high});
  const Scale y = YScale(floor, high);
  const double slot =
      (kWidth - kLeft - kRight) / static_cast<double>(std::max<size_t>(bars.size(), 1));
  std::string out = Open(title) + YAxis(y, y_label);
  for (size_t i = 0; i < bars.size(); ++i) {
    const double left = kLeft + slot * static_cast<double>(i) + slot * 0.2,
                 middle = left + slot * 0.3;
    const double top = y(std::max(bars[i].value, floor));
    out += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>"
        "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:.4g}</text>"
        "<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
        left, top, slot * 0.6, y.from - top, kColours[i % std::size(kColours)], middle, top - 4,
        bars[i].value, middle, kHeight - kBottom + 16, EscapeHtml(bars[i].name));
    if (bars[i].high > bars[i].low)
      out += fmt::format(
          "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\" stroke=\"#111\"/>\n",
          middle, y(std::max(bars[i].low, floor)), y(bars[i].high));
  }
  return out + "</svg>\n";
}

std::string RowChart(const std::string& title, const std::string& x_label,
                     const std::vector<Row>& rows, const std::optional<Limit>& limit) {
  double low = 0, high = 0, names = 60;
  for (const auto& [bar, text, faint] : rows) {
    names =
        std::max(names, 24 + 6.5 * static_cast<double>(std::min(bar.name.size(), kNameLetters)));
    low = std::min({low, bar.value, bar.low});
    high = std::max({high, bar.value, bar.high});
  }
  if (limit) low = std::min(low, limit->at);
  if (limit) high = std::max(high, limit->at);
  const Scale x{low, high > low ? high : low + 1, names, kWidth - kTexts};
  const double bottom = kTop + kRowHeight * static_cast<double>(rows.size());
  const double height = bottom + kBottom;
  std::string out = Open(title, height, 16) + XAxis(x, x_label, height);
  for (size_t i = 0; i < rows.size(); ++i)
    out += RowAt(rows[i], x, kTop + kRowHeight * static_cast<double>(i));
  if (limit)
    out += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2:.1f}\" stroke=\"#dc2626\" "
        "stroke-dasharray=\"5 4\"/><text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\" "
        "fill=\"#dc2626\">{4}</text>\n",
        x(limit->at), kTop, bottom, kTop - 4, EscapeHtml(limit->name));
  return out + "</svg>\n";
}

std::string ScatterChart(const Scatter& scatter) {
  std::vector<double> xs, ys;
  for (const Point& point : scatter.points) {
    xs.push_back(point.x);
    ys.push_back(point.y);
  }
  if (scatter.limit) ys.push_back(scatter.limit->at);
  const Scale x = Around(xs, kLeft, kWidth - kRight), y = Around(ys, kHeight - kBottom, kTop);
  std::string out = Open(scatter.title) + YAxis(y, scatter.y_label) + XAxis(x, scatter.x_label);
  Series line;
  for (const auto& [at, value] : scatter.line) {
    line.x.push_back(at);
    line.y.push_back(value);
  }
  out += Polyline(line, x, y, "#94a3b8");
  if (scatter.limit) out += LimitLine(*scatter.limit, y);
  Labels labels;
  for (const Point& p : scatter.points) {
    out += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4.5\" stroke=\"{}\" stroke-width=\"1.5\" "
        "fill=\"{}\"/>",
        x(p.x), y(p.y), kColours[0], p.hollow ? "#fff" : kColours[0]);
    out += labels.Write(x(p.x), y(p.y), p.name);
  }
  return out + "</svg>\n";
}

std::string SpreadChart(const Spread& spread) {
  constexpr double kBottomEdge = kSpreadHeight - 16, kTopEdge = 20;
  const std::vector<double> counts = Merged(spread.counts), after = Merged(spread.after);
  const double most = std::max({Largest(counts), Largest(after), 1.0});
  std::string out = fmt::format(
      "<svg viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" font-family=\"sans-serif\" "
      "font-size=\"10\"><title>{2}</title><text x=\"0\" y=\"11\">{3}</text>\n",
      kSpreadWidth, kSpreadHeight, EscapeHtml(spread.name), EscapeHtml(Clipped(spread.name, 32)));
  if (!counts.empty())
    out += fmt::format("<path d=\"{}\" fill=\"#93c5fd\"/>\n",
                       Steps(counts, most, kBottomEdge, kTopEdge));
  if (!after.empty())
    out += fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\"/>\n",
                       Steps(after, most, kBottomEdge, kTopEdge), kColours[1]);
  if (spread.chosen && spread.high > spread.low) {
    const Scale x{spread.low, spread.high, 0, kSpreadWidth};
    for (double at : {spread.chosen->first, spread.chosen->second})
      out += fmt::format(
          "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" stroke=\"#dc2626\"/>\n",
          std::clamp(x(at), 0.5, kSpreadWidth - 0.5), kTopEdge - 4, kBottomEdge);
  }
  return out + fmt::format(
                   "<line x1=\"0\" x2=\"{0}\" y1=\"{1}\" y2=\"{1}\" stroke=\"#999\"/>"
                   "<text x=\"0\" y=\"{2}\">{3:.3g}</text>"
                   "<text x=\"{0}\" y=\"{2}\" text-anchor=\"end\">{4:.3g}</text></svg>\n",
                   kSpreadWidth, kBottomEdge, kSpreadHeight - 3, spread.low, spread.high);
}

std::string Histogram(const std::string& title, const std::string& x_label,
                      const std::vector<Series>& samples) {
  constexpr int kBins = 40;
  double high = 1e-9;
  for (const Series& s : samples)
    if (!s.x.empty()) high = std::max(high, Percentile(s.x, 0.99));
  std::vector<Series> lines;
  for (const Series& s : samples) {
    Series line{.name = s.name};
    std::vector<double> counts(kBins, 0);
    for (double v : s.x)
      if (v < high)
        counts[static_cast<int>(v / high * kBins)] += 1.0 / static_cast<double>(s.x.size());
    for (int b = 0; b < kBins; ++b) {
      for (double edge : {0.0, 1.0}) {
        line.x.push_back((b + edge) * high / kBins);
        line.y.push_back(counts[b] * 100);
      }
    }
    lines.push_back(std::move(line));
  }
  return LineChart(title, x_label, "% of requests", lines);
}

std::string PageHead(const std::string& title) {
  return "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>" + EscapeHtml(title) +
         "</title><style>"
         "body{font-family:sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#111}"
         "table{border-collapse:collapse;margin:1rem 0}td,th{border-bottom:1px solid #ddd;"
         "padding:.3rem .6rem;"
         "text-align:right}td:first-child,th:first-child,td:last-child{text-align:left}"
         "svg{max-width:100%}.grid{display:flex;flex-wrap:wrap;gap:.6rem}figure{margin:0;"
         "width:92px;font-size:.7rem}"
         ".wrong figcaption{color:#b91c1c;font-weight:bold}</style><h1>" +
         EscapeHtml(title) + "</h1>\n";
}

}  // namespace minim
