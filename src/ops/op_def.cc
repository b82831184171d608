#include "ops/op_def.h"

#include <algorithm>
#include <map>

#include "ops/registry.h"

namespace minim {

const DTypeList kFloatTypes = {DType::f64, DType::f32, DType::f16, DType::bf16};
const DTypeList kNumericTypes = {DType::f64, DType::f32, DType::f16, DType::bf16,
                                 DType::i64, DType::i32, DType::i16, DType::i8,
                                 DType::u64, DType::u32, DType::u16, DType::u8};
const DTypeList kSignedTypes = {DType::f64, DType::f32, DType::f16, DType::bf16,
                                DType::i64, DType::i32, DType::i16, DType::i8};
const DTypeList kAllTypes = {DType::f64, DType::f32, DType::f16,  DType::bf16, DType::i64,
                             DType::i32, DType::i16, DType::i8,   DType::u64,  DType::u32,
                             DType::u16, DType::u8,  DType::bool_};

const DTypeList kSmallTypes = {DType::f8e4m3fn, DType::f8e4m3fnuz, DType::f8e5m2, DType::f8e5m2fnuz,
                               DType::u4,       DType::i4,         DType::f4e2m1, DType::f8e8m0,
                               DType::u2,       DType::i2};

DTypeList Joined(DTypeList a, const DTypeList& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

namespace {

struct Table {
  std::vector<OpDef> defs = ops::MakeAllOps();
  std::vector<const OpDef*> sorted;
  std::map<std::pair<std::string_view, std::string_view>, const OpDef*> by_name;

  Table() {
    for (const OpDef& def : defs) {
      sorted.push_back(&def);
      MINIM_CHECK(
          by_name.emplace(std::pair(std::string_view(def.domain), std::string_view(def.name)), &def)
              .second);
    }
    std::sort(sorted.begin(), sorted.end(), [](const OpDef* a, const OpDef* b) {
      return std::pair(a->domain, a->name) < std::pair(b->domain, b->name);
    });
  }
};

const Table& Ops() {
  static const Table table;
  return table;
}

}  // namespace

const OpDef* FindOp(std::string_view domain, std::string_view name) {
  const auto it = Ops().by_name.find({domain, name});
  return it == Ops().by_name.end() ? nullptr : it->second;
}

const std::vector<const OpDef*>& AllOps() { return Ops().sorted; }

void UpgradeContext::SetInput(size_t index, Tensor value) {
  if (node.inputs.size() <= index) node.inputs.resize(index + 1, kNoValue);
  node.inputs[index] = graph.AddConstant("", std::move(value));
}

void UpgradeContext::AttributeToInput(std::string_view name, size_t index) {
  if (!node.attributes.Has(name)) return;
  const auto* one = std::get_if<int64_t>(&node.attributes.items().find(name)->second);
  const auto values = one ? std::vector<int64_t>{*one} : node.attributes.Ints(name);
  SetInput(index, Tensor::From<int64_t>({static_cast<int64_t>(values.size())}, values));
  node.attributes.Erase(name);
}

}  // namespace minim
