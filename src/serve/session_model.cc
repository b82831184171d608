#include "serve/session_model.h"

#include <algorithm>

#include "core/error.h"
#include "exec/runtime.h"
#include "serve/repository/background.h"

namespace minim::serve {
namespace {

bool AnyStrings(const std::vector<TensorInfo>& infos) {
  return std::any_of(infos.begin(), infos.end(),
                     [](const TensorInfo& info) { return info.dtype == DType::string; });
}

class SessionModel : public Model {
 public:
  explicit SessionModel(std::shared_ptr<const Session> session)
      : session_(std::move(session)),
        has_strings_(AnyStrings(session_->inputs()) || AnyStrings(session_->outputs())) {}
  const std::vector<TensorInfo>& inputs() const override { return session_->inputs(); }
  const std::vector<TensorInfo>& outputs() const override { return session_->outputs(); }
  Result<std::vector<Tensor>> Run(std::span<const ConstView> inputs) const override {
    return has_strings_ ? RunWithStrings(inputs) : session_->Run(inputs);
  }
  Status Warm(std::span<const Dims> input_dims) const override {
    // What works on strings is planned anew for every call.
    return has_strings_ ? Status() : session_->Warm(input_dims);
  }
  SessionMemory memory() const override { return session_->memory(); }
  void Trim() const override { session_->Trim(); }

 private:
  Result<std::vector<Tensor>> RunWithStrings(std::span<const ConstView> inputs) const;

  const std::shared_ptr<const Session> session_;
  const bool has_strings_;
};

// Strings are no view of bytes: they go as values.
Result<std::vector<Tensor>> SessionModel::RunWithStrings(std::span<const ConstView> inputs) const {
  std::vector<HostValue> values;
  for (const ConstView& input : inputs) values.emplace_back(Tensor::Copy(input));
  MINIM_TRY(const std::vector<HostValue> results, session_->Run(values));
  std::vector<Tensor> outputs;
  for (const HostValue& result : results) {
    if (result.tensor() == nullptr)
      return Internal("output '{}': not a tensor", session_->outputs()[outputs.size()].name);
    outputs.push_back(*result.tensor());
  }
  return outputs;
}

// The protocol has no names for them, so that no request could be answered.
Status RefuseOtherTypes(const std::vector<TensorInfo>& values) {
  for (const TensorInfo& value : values) {
    if (!value.other_type.empty())
      return Unsupported("'{}' is {}, which cannot be served; give the model tensors", value.name,
                         value.other_type);
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
  MINIM_TRY(Runtime::Default());  // here: the threads that it starts would keep the low priority
  MINIM_TRY(std::shared_ptr<const Session> session,
            InBackground([&] { return Session::Load(source.path.string(), options); }));
  MINIM_TRY(RefuseOtherTypes(session->inputs()));
  MINIM_TRY(RefuseOtherTypes(session->outputs()));
  return WrapSession(std::move(session));
}

}  // namespace minim::serve
