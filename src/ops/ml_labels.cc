// ai.onnx.ml: ops between labels, categories and numbers: LabelEncoder, CategoryMapper,
// OneHotEncoder, DictVectorizer, ZipMap.
#include <algorithm>
#include <cmath>
#include <map>

#include "core/dtype.h"
#include "ops/host.h"
#include "ops/infer.h"

namespace minim::ops {
namespace {

TensorType LikeFirst(const InferContext& op, DType dtype) { return {dtype, op.input(0).shape}; }

// A list attribute under any of its names: NAMEs, NAME_floats, NAME_int64s, NAME_strings,
// NAME_tensor. Undefined when none is given.
Tensor ListOf(const Attributes& a, const std::string& name) {
  if (Tensor tensor = a.Tensor(name + "_tensor"); tensor.defined()) return tensor;
  const auto floats = a.Floats(name + "_floats");
  if (!floats.empty()) return Tensor::From<float>({static_cast<int64_t>(floats.size())}, floats);
  const auto ints = a.Ints(name + "_int64s");
  if (!ints.empty()) return Tensor::From<int64_t>({static_cast<int64_t>(ints.size())}, ints);
  const auto strings = a.Strings(name + "_strings");
  if (strings.empty()) return {};
  return Tensor::From<std::string>({static_cast<int64_t>(strings.size())}, strings);
}

// What values are looked up by: strings themselves, numbers as doubles with one NaN, 64-bit
// integers exactly.
struct Key {
  std::string text;
  double real = 0;
  int64_t integer = 0;
  bool nan = false;
  auto operator<=>(const Key& other) const {
    if (auto order = nan <=> other.nan; order != 0) return std::partial_ordering(order);
    if (auto order = text <=> other.text; order != 0) return std::partial_ordering(order);
    if (auto order = integer <=> other.integer; order != 0) return std::partial_ordering(order);
    return nan ? std::partial_ordering::equivalent : real <=> other.real;
  }
};

std::vector<Key> KeysOf(const Tensor& tensor) {
  std::vector<Key> keys(static_cast<size_t>(tensor.size()));
  if (tensor.dtype() == DType::string) {
    for (size_t i = 0; i < keys.size(); ++i) keys[i].text = tensor.as<std::string>()[i];
  } else if (IsFloat(tensor.dtype())) {
    const Tensor wide = Converted(tensor.view(), DType::f64);
    for (size_t i = 0; i < keys.size(); ++i) {
      keys[i].nan = std::isnan(wide.as<double>()[i]);
      keys[i].real = keys[i].nan ? 0 : wide.as<double>()[i];
    }
  } else {
    const Tensor wide = Converted(tensor.view(), DType::i64);
    for (size_t i = 0; i < keys.size(); ++i) keys[i].integer = wide.as<int64_t>()[i];
  }
  return keys;
}

// The place of each key in a list; the last of equal ones counts.
std::map<Key, int64_t> PlacesOf(const Tensor& list) {
  std::map<Key, int64_t> places;
  const std::vector<Key> keys = KeysOf(list);
  for (size_t i = 0; i < keys.size(); ++i) places[keys[i]] = static_cast<int64_t>(i);
  return places;
}

// values[places[x]], or `fallback`, which has one element.
Tensor LookUp(const Tensor& x, const std::map<Key, int64_t>& places, const Tensor& values,
              const Tensor& fallback) {
  Tensor y(values.dtype(), x.dims());
  const std::vector<Key> keys = KeysOf(x);
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto it = places.find(keys[i]);
    const Tensor& source = it == places.end() ? fallback : values;
    const int64_t at = it == places.end() ? 0 : it->second;
    if (y.dtype() == DType::string) {
      y.as<std::string>()[i] = source.as<std::string>()[at];
    } else {
      const size_t width = SizeOf(y.dtype());
      std::memcpy(static_cast<std::byte*>(y.data()) + i * width,
                  static_cast<const std::byte*>(source.data()) + at * width, width);
    }
  }
  return y;
}

Tensor DefaultOf(const Attributes& a, DType dtype) {
  if (Tensor tensor = a.Tensor("default_tensor"); tensor.defined()) return tensor;
  if (dtype == DType::string)
    return Tensor::Scalar<std::string>(a.String("default_string", "_Unused"));
  if (dtype == DType::f32) return Tensor::Scalar<float>(a.Float("default_float", -0.0f));
  if (dtype == DType::i64) return Tensor::Scalar<int64_t>(a.Int("default_int64", -1));
  return Converted(Tensor::Scalar<int64_t>(-1).view(), dtype);
}

// The form of version 1: a list of strings and their indices, in either direction.
bool IsOldEncoder(const Attributes& a) { return !a.Strings("classes_strings").empty(); }

Status InferEncoder(InferContext& op) {
  const Attributes& a = op.attributes();
  if (IsOldEncoder(a))
    return op.SetOutput(0,
                        LikeFirst(op, op.dtype(0) == DType::string ? DType::i64 : DType::string));
  const Tensor keys = ListOf(a, "keys"), values = ListOf(a, "values");
  if (!keys.defined() || !values.defined() || keys.size() != values.size())
    return op.Error("has {} keys and {} values", keys.defined() ? keys.size() : 0,
                    values.defined() ? values.size() : 0);
  if ((keys.dtype() == DType::string) != (op.dtype(0) == DType::string))
    return op.Error("input is {}, the keys are {}", Name(op.dtype(0)), Name(keys.dtype()));
  const Tensor fallback = DefaultOf(a, values.dtype());
  if (fallback.dtype() != values.dtype() || fallback.size() != 1)
    return op.Error("the default is {}{}, the values are {}", Name(fallback.dtype()),
                    fallback.dims().ToString(), Name(values.dtype()));
  return op.SetOutput(0, LikeFirst(op, values.dtype()));
}

Tensor Counting(int64_t count) {
  Tensor numbers(DType::i64, {count});
  for (int64_t i = 0; i < count; ++i) numbers.as<int64_t>()[i] = i;
  return numbers;
}

Status HostEncoder(HostContext& op) {
  MINIM_TRY(const Tensor x, op.TensorInput(0));
  const Attributes& a = op.attributes();
  Tensor keys = ListOf(a, "keys"), values = ListOf(a, "values");
  if (IsOldEncoder(a)) {
    const Tensor classes = ListOf(a, "classes");
    const Tensor numbers = Counting(classes.size());
    keys = x.dtype() == DType::string ? classes : numbers;
    values = x.dtype() == DType::string ? numbers : classes;
  }
  op.SetOutput(0, LookUp(x, PlacesOf(keys), values, DefaultOf(a, values.dtype())));
  return {};
}

Status InferMapper(InferContext& op) {
  const auto ints = op.attributes().Ints("cats_int64s");
  const auto strings = op.attributes().Strings("cats_strings");
  if (ints.size() != strings.size())
    return op.Error("has {} cats_int64s and {} cats_strings", ints.size(), strings.size());
  return op.SetOutput(0, LikeFirst(op, op.dtype(0) == DType::string ? DType::i64 : DType::string));
}

Status HostMapper(HostContext& op) {
  MINIM_TRY(const Tensor x, op.TensorInput(0));
  const auto ints = op.attributes().Ints("cats_int64s");
  const auto strings = op.attributes().Strings("cats_strings");
  const Dims dims({static_cast<int64_t>(ints.size())});
  const Tensor numbers = Tensor::From<int64_t>(dims, ints);
  const Tensor texts = Tensor::From<std::string>(dims, strings);
  const bool from_text = x.dtype() == DType::string;
  const Tensor& values = from_text ? numbers : texts;
  op.SetOutput(0, LookUp(x, PlacesOf(from_text ? texts : numbers), values,
                         DefaultOf(op.attributes(), values.dtype())));
  return {};
}

Tensor Categories(const Attributes& a) { return ListOf(a, "cats"); }

Status InferOneHot(InferContext& op) {
  const Tensor categories = Categories(op.attributes());
  if (!categories.defined()) return op.Error("has no categories");
  if ((categories.dtype() == DType::string) != (op.dtype(0) == DType::string))
    return op.Error("input is {}, the categories are {}", Name(op.dtype(0)),
                    Name(categories.dtype()));
  if (!op.input(0).ranked()) return op.SetUnknown(0, DType::f32);
  Shape shape = *op.input(0).shape;
  shape.push_back(Dim(categories.size()));
  return op.SetOutput(0, DType::f32, shape);
}

Status HostOneHot(HostContext& op) {
  MINIM_TRY(Tensor x, op.TensorInput(0));
  const Tensor categories = Categories(op.attributes());
  const std::map<Key, int64_t> places = PlacesOf(categories);
  if (IsFloat(x.dtype())) x = Converted(x.view(), DType::i64);  // categories are integers
  const std::vector<Key> keys = KeysOf(x);
  Dims dims = x.dims();
  dims.push_back(categories.size());
  Tensor y(DType::f32, dims);
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto it = places.find(keys[i]);
    if (it != places.end())
      y.as<float>()[i * categories.size() + it->second] = 1;
    else if (op.attributes().Int("zeros", 1) == 0)
      return op.Error("element {} is none of the {} categories", i, categories.size());
  }
  op.SetOutput(0, std::move(y));
  return {};
}

Tensor Vocabulary(const Attributes& a) {
  const auto ints = a.Ints("int64_vocabulary");
  if (!ints.empty()) return Tensor::From<int64_t>({static_cast<int64_t>(ints.size())}, ints);
  const auto strings = a.Strings("string_vocabulary");
  return Tensor::From<std::string>({static_cast<int64_t>(strings.size())}, strings);
}

Status InferVectorizer(InferContext& op) {
  if (op.input(0).kind != ValueKind::kMap)
    return op.Error("input is {}, expected a map", op.input(0).ToString());
  const TensorType& element = *op.input(0).element;
  return op.SetOutput(0, element.dtype, Shape{Dim(1), Dim(Vocabulary(op.attributes()).size())});
}

Status HostVectorizer(HostContext& op) {
  const Map* map = op.input(0).map();
  if (map == nullptr) return op.Error("input is no map");
  const Tensor vocabulary = Vocabulary(op.attributes());
  const Tensor zero = map->values.dtype() == DType::string ? Tensor::Scalar<std::string>("")
                                                           : Tensor(map->values.dtype(), Dims());
  const Tensor y = LookUp(vocabulary, PlacesOf(map->keys), map->values, zero);
  op.SetOutput(0, y.Reshaped({1, vocabulary.size()}));
  return {};
}

// The class labels under the names ZipMap has for them.
Tensor ZipLabels(const Attributes& a) { return ListOf(a, "classlabels"); }

Status InferZipMap(InferContext& op) {
  const Tensor labels = ZipLabels(op.attributes());
  if (!labels.defined()) return op.Error("has no class labels");
  return op.SetOutput(
      0, TensorType::SequenceOf(TensorType::MapOf(labels.dtype(), {DType::f32, Shape()})));
}

Status HostZipMap(HostContext& op) {
  MINIM_TRY(const Tensor x, op.TensorInput(0));
  const Tensor labels = ZipLabels(op.attributes());
  const int rank = x.dims().rank();
  const int64_t columns = rank == 0 ? 1 : x.dims()[rank - 1];
  if (rank < 1 || rank > 2 || columns != labels.size() || x.dtype() != DType::f32)
    return op.Error("{}{} for {} class labels", Name(x.dtype()), x.dims().ToString(),
                    labels.size());
  Sequence rows;
  for (int64_t row = 0; row < (rank == 1 ? 1 : x.dims()[0]); ++row)
    rows.emplace_back(
        Map{labels, Tensor::From<float>({columns}, x.as<float>().subspan(row * columns, columns))});
  op.SetOutput(0, std::move(rows));
  return {};
}

OpDef Define(std::string name, std::vector<int> since, std::function<Status(InferContext&)> infer,
             std::function<Status(HostContext&)> host) {
  return {.name = std::move(name),
          .domain = std::string(kMlDomain),
          .onnx_since = std::move(since),
          .infer = std::move(infer),
          .host = std::move(host)};
}

}  // namespace

std::vector<OpDef> MlLabels() {
  return {Define("LabelEncoder", {1, 2, 4}, InferEncoder, HostEncoder),
          Define("CategoryMapper", {1}, InferMapper, HostMapper),
          Define("OneHotEncoder", {1}, InferOneHot, HostOneHot),
          Define("DictVectorizer", {1}, InferVectorizer, HostVectorizer),
          Define("ZipMap", {1}, InferZipMap, HostZipMap)};
}

}  // namespace minim::ops
