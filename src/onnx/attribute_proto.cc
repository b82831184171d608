#include "onnx/attribute_proto.h"

#include "onnx/tensor_proto.h"
#include "onnx/value_proto.h"

namespace minim {
namespace {

enum AttributeKind {
  kFloat = 1,
  kInt = 2,
  kString = 3,
  kTensor = 4,
  kFloats = 6,
  kInts = 7,
  kStrings = 8,
  kSparse = 11,
  kType = 13
};

}  // namespace

Result<Attribute> AttributeFromProto(const minim_onnx::AttributeProto& proto, const Path& folder) {
  switch (proto.type()) {
    case kFloat: return Attribute(proto.f());
    case kInt: return Attribute(proto.i());
    case kString: return Attribute(proto.s());
    case kTensor: {
      MINIM_TRY(Tensor tensor, TensorFromProto(proto.t(), folder));
      return Attribute(std::move(tensor));
    }
    case kSparse: {
      MINIM_TRY(Tensor tensor, TensorFromSparse(proto.sparse_tensor(), folder));
      return Attribute(std::move(tensor));
    }
    case kType: {
      MINIM_TRY(TensorType type, TypeFromProto(proto.name(), proto.tp()));
      return Attribute(std::move(type));
    }
    case kFloats:
      return Attribute(std::vector<float>(proto.floats().begin(), proto.floats().end()));
    case kInts: return Attribute(std::vector<int64_t>(proto.ints().begin(), proto.ints().end()));
    case kStrings:
      return Attribute(std::vector<std::string>(proto.strings().begin(), proto.strings().end()));
    default:
      return Unsupported("attribute '{}' has kind {}, which is not supported", proto.name(),
                         proto.type());
  }
}

}  // namespace minim
