#include "kernels/cpu/gemm.h"

#include <algorithm>

namespace minim {

GemmArgs GemmBlock(const GemmArgs& args, int64_t row, int64_t rows, int64_t panel, int64_t columns,
                   Epilogue* epilogue) {
  GemmArgs block = args;
  const int64_t column = panel * kPanel;
  block.m = rows;
  block.n = columns;
  block.a += row * args.a_row;
  block.panel_stride = args.panel_stride ? args.panel_stride : args.k * kPanel;
  if (block.packed) block.packed += panel * block.panel_stride;
  if (block.packed_bf16) block.packed_bf16 += panel * block.panel_stride;
  if (block.b) block.b += column;
  block.c += row * args.c_row + column;
  if (args.epilogue) {
    *epilogue = args.epilogue->At(row, column);
    block.epilogue = epilogue;
  }
  return block;
}

void UnpackB(const GemmPack& p, const float* packed, float* b) {
  const int64_t panels = PanelsOf(p.n);
  for (int64_t group = 0; group < panels; group += p.group) {
    const int64_t width = std::min(p.group, panels - group) * kPanel;
    const int64_t first = group * kPanel, count = std::min(width, p.n - first);
    for (int64_t k = 0; k < p.k; ++k, packed += width)
      for (int64_t j = 0; j < count; ++j) b[k * p.row + (first + j) * p.column] = packed[j];
  }
}

void ParallelGemm(const GemmLevel& level, const GemmArgs& args, const ThreadBudget& threads) {
  constexpr double kWorthAThread = 100e3;  // multiply-adds
  const double work = static_cast<double>(args.m) * args.n * std::max<int64_t>(args.k, 1);
  const int64_t groups = (PanelsOf(args.n) + args.group - 1) / args.group;
  const int64_t rows6 = (args.m + 5) / 6;
  const bool by_columns = groups * args.group >= rows6 && groups >= threads.threads;
  const int64_t units = by_columns ? groups : rows6, width = args.group * kPanel;
  const auto most = static_cast<int64_t>(work / kWorthAThread) + 1;
  const int pieces = static_cast<int>(std::min({most, units, int64_t{threads.threads}}));
  if (pieces <= 1) return level.multiply(args);
  threads.ParallelFor(pieces, [&](int i) {
    const int64_t first = units * i / pieces, last = units * (i + 1) / pieces;
    Epilogue epilogue;
    if (by_columns) {
      const int64_t columns = std::min(last * width, args.n) - first * width;
      level.multiply(GemmBlock(args, 0, args.m, first * args.group, columns, &epilogue));
    } else {
      const int64_t rows = std::min(last * 6, args.m) - first * 6;
      level.multiply(GemmBlock(args, first * 6, rows, 0, args.n, &epilogue));
    }
  });
}

}  // namespace minim
