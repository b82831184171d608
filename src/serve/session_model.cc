#include "serve/session_model.h"

namespace minim::serve {
namespace {

class SessionModel : public Model {
 public:
  explicit SessionModel(std::shared_ptr<const Session> session) : session_(std::move(session)) {}
  const std::vector<TensorInfo>& inputs() const override { return session_->inputs(); }
  const std::vector<TensorInfo>& outputs() const override { return session_->outputs(); }
  Result<std::vector<Tensor>> Run(std::span<const ConstView> inputs) const override {
    return session_->Run(inputs);
  }
  Status Warm(std::span<const Dims> input_dims) const override {
    return session_->Warm(input_dims);
  }

 private:
  const std::shared_ptr<const Session> session_;
};

// The protocol has no names for them, so that no request could be answered.
Status RefuseOtherTypes(const std::vector<TensorInfo>& values) {
  for (const TensorInfo& value : values) {
    if (!value.other_type.empty() || value.dtype == DType::string)
      return Unsupported("'{}' is {}, which cannot be served yet; give the model arrays of numbers",
                         value.name, value.other_type.empty() ? "string" : value.other_type);
    if (IsSmall(value.dtype))
      return Unsupported("'{}' is {}, which the protocol cannot carry; cast it inside the model",
                         value.name, Name(value.dtype));
  }
  return {};
}

}  // namespace

std::shared_ptr<Model> WrapSession(std::shared_ptr<const Session> session) {
  return std::make_shared<SessionModel>(std::move(session));
}

Result<std::shared_ptr<Model>> LoadSessionModel(const TierSource& source) {
  SessionOptions options;
  if (source.bf16_arithmetic) options.precision = Precision::kBf16;
  options.portable_kernels = source.portable_kernels;
  MINIM_TRY(std::shared_ptr<const Session> session, Session::Load(source.path.string(), options));
  MINIM_TRY(RefuseOtherTypes(session->inputs()));
  MINIM_TRY(RefuseOtherTypes(session->outputs()));
  return WrapSession(std::move(session));
}

}  // namespace minim::serve
