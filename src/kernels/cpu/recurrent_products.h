// Products of rows of X or H with a recurrent layer's weights. Where the weights are narrower than
// FP32 the rows are formed first: rounded to BF16, or quantized each by its own scale.
#pragma once

#include "kernels/cpu/carver.h"
#include "kernels/cpu/recurrent.h"

namespace minim {

struct ProductRows {
  int64_t count = 0, depth = 0;
  const float* floats = nullptr;  // as they are, for products in FP32
  int64_t step = 0;
  std::byte* formed = nullptr;  // BF16 or signed bytes, filled up with zeros ...
  size_t formed_step = 0;       // ... bytes apart
  size_t part_step = 0;         // and from part to part of kParts
  std::byte* placed = nullptr;  // signed bytes as IntLevel's multiply_bytes wants them
  size_t placed_step = 0;
  int32_t* start = nullptr;
  float* scales = nullptr;

  /// The same room for some of the rows.
  ProductRows Some(int64_t first, int64_t last) const;
};

/// Room for so many rows.
ProductRows TakeProductRows(const RecurrentPlan& plan, const RecurrentPack& pack, int64_t count,
                            Carver& carver);
/// Makes `rows` of src, `step` values apart.
void FormRows(const RecurrentPlan& plan, const RecurrentPack& pack, const float* src, int64_t step,
              ProductRows* rows);

/// Where products of some panels go, and what is added to each row.
struct ProductSums {
  const float* bias = nullptr;
  float* dst = nullptr;
  int64_t dst_row = 0;
  bool backwards = false;  // the last panels first; bytes are multiplied in order all the same
};

/// The products of all rows with `panels` panels from `panel` on, as floats.
void MultiplyRows(const RecurrentPlan& plan, const RecurrentPack& pack, const std::byte* packed,
                  int64_t panel, int64_t panels, const ProductRows& rows, const ProductSums& to);
/// The products with all panels by all threads.
void ParallelMultiplyRows(const RecurrentPlan& plan, const RecurrentPack& pack,
                          const std::byte* packed, const ProductRows& rows, const ProductSums& to,
                          const ThreadBudget& threads);
/// To be called by a thread that is done with products.
void ReleaseProducts(const RecurrentPlan& plan);

}  // namespace minim
