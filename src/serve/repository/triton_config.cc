#include "serve/repository/triton_config.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "repository/model_config.pb.h"
#include "serve/protocol/datatypes.h"

namespace minim::serve {
namespace {

namespace pb = google::protobuf;

// Collects what the text parser says. Unknown fields are warnings there.
class Complaints : public pb::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (error.empty()) error = fmt::format("line {}:{}: {}", line + 1, column + 1, message);
  }
  void AddWarning(int line, int column, const std::string& message) override {
    (void)column;
    warnings.push_back(fmt::format("config.pbtxt line {}: not obeyed: {}", line + 1, message));
  }
  std::string error;
  std::vector<std::string> warnings;
};

void ReadVersionPolicy(const inference::ModelVersionPolicy& policy, ServingConfig& config) {
  if (policy.has_all()) config.versions = {.latest = 0};
  if (policy.has_latest())
    config.versions = {.latest = std::max<int64_t>(policy.latest().num_versions(), 1)};
  if (policy.has_specific()) {
    const auto& numbers = policy.specific().versions();
    config.versions.numbers.assign(numbers.begin(), numbers.end());
  }
}

void ReadQueuePolicy(const inference::ModelQueuePolicy& queue, ServingConfig& config) {
  constexpr uint64_t kDayUs = 86400ull * 1000000;
  if (queue.default_timeout_microseconds() > 0)
    config.default_timeout =
        std::chrono::microseconds(std::min(queue.default_timeout_microseconds(), kDayUs));
  if (queue.max_queue_size() > 0) config.max_queue_rows = queue.max_queue_size();
}

// A delay of 0 sends what is there, as the default policy does; a longer one is a window.
Status ReadBatching(const inference::ModelConfig& triton, ServingConfig& config) {
  if (triton.max_batch_size() < 0 || triton.max_batch_size() > 65536)
    return InvalidArgument("max_batch_size: found {}, expected 0 to 65536",
                           triton.max_batch_size());
  config.batching = triton.max_batch_size() > 0;
  if (!config.batching) return {};
  config.bounds.max_batch = triton.max_batch_size();
  config.bounds.min_batch = std::min(config.bounds.min_batch, config.bounds.max_batch);
  if (!triton.has_dynamic_batching()) return {};
  const auto& batching = triton.dynamic_batching();
  ReadQueuePolicy(batching.default_queue_policy(), config);
  const uint64_t delay_us = batching.max_queue_delay_microseconds();
  if (delay_us == 0) return {};
  if (delay_us > 60000000)
    return InvalidArgument("max_queue_delay_microseconds: found {}, expected at most a minute",
                           delay_us);
  config.policy = "time-window";
  config.bounds.window = config.bounds.max_wait = std::chrono::microseconds(delay_us);
  for (const int32_t size : batching.preferred_batch_size())
    if (size != triton.max_batch_size())
      config.warnings.push_back(fmt::format(
          "config.pbtxt: preferred_batch_size {}: not obeyed; a window sends what it holds", size));
  return {};
}

Status ReadInstances(const inference::ModelConfig& triton, ServingConfig& config) {
  for (const auto& group : triton.instance_group()) {
    if (group.count() < 0 || group.count() > 256)
      return InvalidArgument("instance_group count: found {}, expected 1 to 256", group.count());
    if (group.count() > 0) config.instances = group.count();
    if (group.kind() == inference::ModelInstanceGroup::KIND_GPU)
      config.warnings.push_back("config.pbtxt: KIND_GPU: runs on the CPU");
  }
  return {};
}

template <typename List>
std::vector<DeclaredTensor> DeclaredOf(const List& tensors) {
  std::vector<DeclaredTensor> declared;
  for (const auto& tensor : tensors) {
    DeclaredTensor item{.name = tensor.name()};
    if (tensor.data_type() != inference::TYPE_INVALID)
      item.datatype = inference::DataType_Name(tensor.data_type()).substr(5);
    item.dims.assign(tensor.dims().begin(), tensor.dims().end());
    declared.push_back(std::move(item));
  }
  return declared;
}

void WarnOfBackend(const inference::ModelConfig& triton, ServingConfig& config) {
  const std::string& backend = triton.backend().empty() ? triton.platform() : triton.backend();
  if (!backend.empty() && !backend.starts_with("onnxruntime") && backend != "minim" &&
      backend != "onnx_minim")
    config.warnings.push_back(fmt::format(
        "config.pbtxt: backend '{}': the model runs in minim, from model.onnx", backend));
  if (!triton.default_model_filename().empty() && triton.default_model_filename() != "model.onnx")
    config.warnings.push_back(
        fmt::format("config.pbtxt: default_model_filename '{}': not obeyed, model.onnx is read",
                    triton.default_model_filename()));
  for (const auto& entry : triton.parameters())
    config.warnings.push_back(fmt::format("config.pbtxt: parameter '{}': not obeyed", entry.key()));
}

bool SameDims(const std::vector<int64_t>& declared, std::span<const int64_t> dims) {
  return std::equal(declared.begin(), declared.end(), dims.begin(), dims.end(),
                    [](int64_t a, int64_t b) { return a < 0 || b < 0 || a == b; });
}

}  // namespace

Status ReadTritonConfig(std::string_view text, std::string_view model, ServingConfig& config) {
  if (text.size() > std::numeric_limits<int>::max()) return InvalidArgument("larger than 2 GiB");
  Complaints complaints;
  pb::TextFormat::Parser parser;
  parser.RecordErrorsTo(&complaints);
  parser.AllowUnknownField(true);
  parser.SetRecursionLimit(32);
  inference::ModelConfig triton;
  if (!parser.ParseFromString(std::string(text), &triton))
    return InvalidArgument("{}; expected Triton's model configuration as protobuf text",
                           complaints.error);
  if (!triton.name().empty() && triton.name() != model)
    return InvalidArgument("name '{}': the folder is '{}'; make them equal", triton.name(), model);
  config.warnings.insert(config.warnings.end(), complaints.warnings.begin(),
                         complaints.warnings.end());
  WarnOfBackend(triton, config);
  ReadVersionPolicy(triton.version_policy(), config);
  MINIM_TRY(ReadBatching(triton, config));
  MINIM_TRY(ReadInstances(triton, config));
  if (triton.has_response_cache()) config.cache = triton.response_cache().enable();
  config.inputs = DeclaredOf(triton.input());
  config.outputs = DeclaredOf(triton.output());
  return {};
}

Status CheckDeclared(const std::vector<DeclaredTensor>& declared,
                     const std::vector<TensorInfo>& infos, bool batched) {
  for (const DeclaredTensor& tensor : declared) {
    const auto it = std::find_if(infos.begin(), infos.end(),
                                 [&](const TensorInfo& info) { return info.name == tensor.name; });
    if (it == infos.end())
      return InvalidArgument("config.pbtxt: '{}': the model has no such input or output",
                             tensor.name);
    const std::string found =
        it->dtype == DType::string ? "STRING" : std::string(DatatypeName(it->dtype));
    if (!tensor.datatype.empty() && tensor.datatype != found)
      return InvalidArgument("config.pbtxt: '{}': declared TYPE_{}, the model has TYPE_{}",
                             tensor.name, tensor.datatype, found);
    const size_t skip = batched && !it->dims.empty() ? 1 : 0;
    const auto dims = std::span(it->dims).subspan(skip);
    if (it->ranked && !SameDims(tensor.dims, dims))
      return InvalidArgument("config.pbtxt: '{}': declared dims [{}], the model has [{}]",
                             tensor.name, fmt::join(tensor.dims, ", "), fmt::join(dims, ", "));
  }
  return {};
}

}  // namespace minim::serve
