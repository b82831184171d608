// Small SVG charts for reports, and the head of their pages.
#pragma once

#include <string>
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

/// Overlaid histograms of positive values on one axis, cut at the 99th percentile.
std::string Histogram(const std::string& title, const std::string& x_label,
                      const std::vector<Series>& samples);

/// The head and style of a page of charts.
std::string PageHead(const std::string& title);

/// Text made safe inside HTML and SVG.
std::string EscapeHtml(const std::string& text);

}  // namespace minim
