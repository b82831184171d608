#include "apps/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/stats.h"

namespace minim {
namespace {

constexpr double kWidth = 640, kHeight = 300, kLeft = 64, kRight = 16, kTop = 36, kBottom = 46;
constexpr const char* kColours[] = {"#2563eb", "#d97706", "#059669", "#7c3aed", "#dc2626"};
constexpr int kTicks = 5;

struct Scale {
  double low, high, from, to;
  double operator()(double v) const {
    return from + (high > low ? (v - low) / (high - low) : 0) * (to - from);
  }
};

Scale XScale(double low, double high) { return {low, high, kLeft, kWidth - kRight}; }
Scale YScale(double low, double high) { return {low, high, kHeight - kBottom, kTop}; }

std::string Open(const std::string& title) {
  return fmt::format(
      "<svg viewBox=\"0 0 {:.0f} {:.0f}\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" "
      "font-family=\"sans-serif\" font-size=\"12\"><title>{}</title>"
      "<text x=\"{:.0f}\" y=\"18\" font-size=\"14\" font-weight=\"bold\">{}</text>\n",
      kWidth, kHeight, EscapeHtml(title), kLeft, EscapeHtml(title));
}

std::string YAxis(const Scale& y, const std::string& label) {
  std::string out;
  for (int i = 0; i <= kTicks; ++i) {
    const double v = y.low + (y.high - y.low) * i / kTicks, at = y(v);
    out += fmt::format(
        "<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>"
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:.4g}</text>\n",
        kLeft, kWidth - kRight, at, at, kLeft - 6, at + 4, v);
  }
  return out +
         fmt::format(
             "<text transform=\"translate(14,{}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
             (kTop + kHeight - kBottom) / 2, EscapeHtml(label));
}

std::string XAxis(const Scale& x, const std::string& label) {
  std::string out;
  for (int i = 0; i <= kTicks; ++i) {
    const double v = x.low + (x.high - x.low) * i / kTicks;
    out += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:.4g}</text>\n", x(v),
                       kHeight - kBottom + 16, v);
  }
  return out + fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                           (kLeft + kWidth - kRight) / 2, kHeight - 10, EscapeHtml(label));
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
