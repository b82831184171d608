// TfIdfVectorizer over integers: counts the n-grams of a pool in each row.
#include <algorithm>
#include <map>

#include "ops/infer.h"
#include "ops/reference.h"

namespace minim::ops {
namespace {

using Gram = std::vector<int64_t>;

struct Vectorizer {
  int64_t shortest, longest, skips;
  std::vector<int64_t> columns;  // the output column of each n-gram of the pool
  std::map<Gram, int64_t> pool;  // n-grams of the wanted lengths and their columns
  std::vector<double> weights;   // of each output column

  explicit Vectorizer(const Attributes& a)
      : shortest(a.Int("min_gram_length", 1)),
        longest(a.Int("max_gram_length", 1)),
        skips(a.Int("max_skip_count", 0)),
        columns(a.Ints("ngram_indexes")) {}

  int64_t width() const { return *std::max_element(columns.begin(), columns.end()) + 1; }
};

// The pool lists the 1-grams, then the 2-grams, ..; `starts` says where each length begins.
Result<Vectorizer> MakeVectorizer(const Attributes& a) {
  Vectorizer v(a);
  const std::vector<int64_t> values = a.Ints("pool_int64s"), starts = a.Ints("ngram_counts");
  if (v.shortest < 1 || v.longest < v.shortest || v.skips < 0)
    return InvalidArgument("n-grams of {} to {} with {} skips, expected 1 or more", v.shortest,
                           v.longest, v.skips);
  if (v.columns.empty() || *std::min_element(v.columns.begin(), v.columns.end()) < 0 ||
      v.width() > (1 << 24))
    return InvalidArgument("ngram_indexes must hold columns of the output");
  size_t id = 0;
  for (size_t n = 1; n <= starts.size(); ++n) {
    const auto total = static_cast<int64_t>(values.size());
    const int64_t end = n < starts.size() ? starts[n] : total;
    if (starts[n - 1] < 0 || end < starts[n - 1] || end > total)
      return InvalidArgument("ngram_counts do not fit a pool of {}", total);
    const auto length = static_cast<int64_t>(n);
    for (int64_t at = starts[n - 1]; at + length <= end; at += length, ++id) {
      if (id >= v.columns.size())
        return InvalidArgument("ngram_indexes has {} values, too few", v.columns.size());
      if (length >= v.shortest && length <= v.longest)
        v.pool[Gram(values.begin() + at, values.begin() + at + length)] = v.columns[id];
    }
  }
  const std::vector<float> weights = a.Floats("weights");
  if (!weights.empty() && weights.size() < v.columns.size())
    return InvalidArgument("{} weights for {} n-grams", weights.size(), v.columns.size());
  v.weights.assign(v.width(), 1);
  for (size_t i = 0; !weights.empty() && i < v.columns.size(); ++i)
    v.weights[v.columns[i]] = weights[i];
  return v;
}

Status Infer(InferContext& op) {
  if (op.attributes().Has("pool_strings"))
    return Unsupported("TfIdfVectorizer '{}': pools of strings are not supported", op.node().name);
  const std::string mode = op.attributes().String("mode", "");
  if (mode != "TF" && mode != "IDF" && mode != "TFIDF")
    return op.Error("mode '{}' is unknown", mode);
  const auto vectorizer = MakeVectorizer(op.attributes());
  if (!vectorizer.ok()) return op.Error("{}", vectorizer.status().message());
  if (!op.input(0).ranked()) return op.SetUnknown(0, DType::f32);
  Shape shape = *op.input(0).shape;
  if (shape.size() > 2)
    return op.Error("input has shape {}, expected [C] or [N,C]", ToString(shape));
  if (!shape.empty()) shape.pop_back();
  shape.emplace_back(vectorizer->width());
  return op.SetOutput(0, DType::f32, std::move(shape));
}

// Adds the n-grams that begin at `start` and take every `step`-th item.
void CountFrom(const Vectorizer& v, std::span<const int64_t> row, size_t start, size_t step,
               int64_t shortest, std::span<double> counts) {
  Gram gram;
  for (size_t at = start; at < row.size(); at += step) {
    if (static_cast<int64_t>(gram.size()) == v.longest) return;
    gram.push_back(row[at]);
    if (static_cast<int64_t>(gram.size()) < shortest) continue;
    if (const auto it = v.pool.find(gram); it != v.pool.end()) ++counts[it->second];
  }
}

// Skips make no difference to 1-grams, which count once.
void CountRow(const Vectorizer& v, std::span<const int64_t> row, std::span<double> counts) {
  const int64_t far = std::min<int64_t>(v.skips, static_cast<int64_t>(row.size()));
  for (int64_t step = 1; step <= far + 1; ++step) {
    const int64_t shortest = step > 1 ? std::max<int64_t>(2, v.shortest) : v.shortest;
    if (shortest > v.longest) return;
    for (size_t start = 0; start < row.size(); ++start)
      CountFrom(v, row, start, static_cast<size_t>(step), shortest, counts);
  }
}

Status Reference(RefContext& op) {
  RefTensor& y = op.Output(0);
  MINIM_TRY(const Vectorizer v, MakeVectorizer(op.attributes()));
  const std::string mode = op.attributes().String("mode", "TF");
  const std::vector<int64_t> items = op.Ints(0);
  const int64_t width = v.width(), rows = y.size() / width;
  const size_t count = rows == 0 ? 0 : items.size() / static_cast<size_t>(rows);
  for (int64_t row = 0; row < rows; ++row) {
    const auto counts = y.f64().subspan(row * width, width);
    CountRow(v, std::span(items).subspan(row * count, count), counts);
    for (int64_t i = 0; mode != "TF" && i < width; ++i)
      counts[i] = v.weights[i] * (mode == "IDF" ? std::min(counts[i], 1.0) : counts[i]);
  }
  return {};
}

}  // namespace

OpDef TfIdfVectorizer() {
  return {.name = "TfIdfVectorizer",
          .onnx_since = {9},
          .dtypes = {DType::i64, DType::i32},
          .infer = Infer,
          .reference = Reference,
          .precision = PrecisionClass::kFp32,
          .samples =
              "TfIdfVectorizer(x: i32[2,9] = index(6)) {mode=\"TF\", min_gram_length=1, "
              "max_gram_length=2, max_skip_count=3, ngram_counts=[0,3], ngram_indexes=[0,1,2,3,5], "
              "pool_int64s=[1,2,3,1,2,3,3]}\n"
              "TfIdfVectorizer(x: i64[12] = index(4)) {mode=\"IDF\", min_gram_length=2, "
              "max_gram_length=2, max_skip_count=0, ngram_counts=[0,2], ngram_indexes=[0,1,2], "
              "pool_int64s=[1,2,3,1], weights=[0.5,1.0,2.0]}\n"
              "TfIdfVectorizer(x: i64[1,12] = index(4)) {mode=\"TFIDF\", min_gram_length=1, "
              "max_gram_length=1, max_skip_count=1, ngram_counts=[0], ngram_indexes=[1,0], "
              "pool_int64s=[1,2], weights=[0.5,1.5]}\n"};
}

}  // namespace minim::ops
