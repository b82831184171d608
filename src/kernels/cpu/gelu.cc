#include "kernels/cpu/gelu.h"

#include <cmath>
#include <numbers>

namespace minim {
namespace {

double Q(double a) { return 0.5 * std::erfc(a * std::numbers::sqrt2 / 2); }

// The cubic through Q at Chebyshev's four nodes of [middle - 1/2, middle + 1/2] steps.
void FitSegment(int middle, double* c) {
  double nodes[4], slopes[4];  // slopes: divided differences
  for (int i = 0; i < 4; ++i) {
    nodes[i] = 0.5 * std::cos((2 * i + 1) * std::numbers::pi / 8);
    slopes[i] = Q((middle + nodes[i]) * GeluTable::kStep);
  }
  for (int order = 1; order < 4; ++order) {
    for (int i = 3; i >= order; --i)
      slopes[i] = (slopes[i] - slopes[i - 1]) / (nodes[i] - nodes[i - order]);
  }
  for (int power = 0; power < 4; ++power) c[power] = 0;
  for (int i = 3; i >= 0; --i) {  // Newton's form, multiplied out
    for (int power = 3; power > 0; --power) c[power] = c[power - 1] - nodes[i] * c[power];
    c[0] = slopes[i] - nodes[i] * c[0];
  }
}

GeluTable MakeTable() {
  GeluTable table = {};
  for (int segment = 0; segment < GeluTable::kSegments - 1; ++segment) {
    double c[4];
    FitSegment(segment, c);
    for (int power = 0; power < 4; ++power) table.c[power][segment] = static_cast<float>(c[power]);
  }
  return table;
}

}  // namespace

const GeluTable kGeluTable = MakeTable();

}  // namespace minim
