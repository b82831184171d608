// Small SVG charts for reports, and the head of their pages.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace minim {

struct Series {
  std::string name;
  std::vector<double> x, y;
};

/// A line chart with axes, ticks and a legend.
std::string LineChart(const std::string& title, const std::string& x_label,
                      const std::string& y_label, const std::vector<Series>& series);

struct Bar {
  std::string name;
  double value = 0;
  double low = 0, high = 0;  // an error bar when they differ
};
/// Vertical bars from `floor` up, each with its value printed.
std::string BarChart(const std::string& title, const std::string& y_label,
                     const std::vector<Bar>& bars, double floor = 0);

/// A dashed line across a chart.
struct Limit {
  std::string name;
  double at = 0;
};

/// A bar that lies: `text` is written at its end, its value if that is empty.
struct Row {
  Bar bar;
  std::string text;
  bool faint = false;
};
/// Horizontal bars from zero, which negative values reach to the left of; as high as there are
/// rows.
std::string RowChart(const std::string& title, const std::string& x_label,
                     const std::vector<Row>& rows, const std::optional<Limit>& limit = {});

struct Point {
  std::string name;
  double x = 0, y = 0;
  bool hollow = false;
};
struct Scatter {
  std::string title, x_label, y_label;
  std::vector<Point> points;
  std::vector<std::pair<double, double>> line;  // drawn thinly, e.g. through the best points
  std::optional<Limit> limit;                   // of y
};
/// Labelled points. The axes begin and end around them and the limit, not at zero.
std::string ScatterChart(const Scatter& scatter);

/// Where values lie: counts of equally wide bins of [low, high].
struct Spread {
  std::string name;
  double low = 0, high = 0;
  std::vector<double> counts;
  std::vector<double> after;                        // the same bins later; may be empty
  std::optional<std::pair<double, double>> chosen;  // marked by lines
};
/// A small picture, of which many fit a page; heights are logarithmic.
std::string SpreadChart(const Spread& spread);

/// Overlaid histograms of positive values on one axis, cut at the 99th percentile.
std::string Histogram(const std::string& title, const std::string& x_label,
                      const std::vector<Series>& samples);

/// The head and style of a page of charts.
std::string PageHead(const std::string& title);

/// Text made safe inside HTML and SVG.
std::string EscapeHtml(const std::string& text);

}  // namespace minim
