#include "serve/grpc/describe_proto.h"

#include "grpc/inference.pb.h"
#include "serve/protocol/datatypes.h"
#include "serve/protocol/documents.h"

namespace minim::serve {
namespace {

int64_t AnySize(int64_t size) { return size < 0 ? -1 : size; }

inference::DataType ConfigType(DType dtype) {
  inference::DataType type = inference::TYPE_INVALID;
  (void)inference::DataType_Parse(ConfigTypeName(dtype), &type);  // what is not served is invalid
  return type;
}

template <typename List>
void DescribeTensors(const std::vector<TensorInfo>& infos, List& list) {
  for (const TensorInfo& info : infos) {
    auto& tensor = *list.Add();
    tensor.set_name(info.name);
    tensor.set_datatype(std::string(DatatypeName(info.dtype)));
    for (const int64_t size : info.dims) tensor.add_shape(AnySize(size));
  }
}

// Configurations leave the batch dimension out.
template <typename List>
void ConfigureTensors(const std::vector<TensorInfo>& infos, bool batched, List& list) {
  for (const TensorInfo& info : infos) {
    auto& tensor = *list.Add();
    tensor.set_name(info.name);
    tensor.set_data_type(ConfigType(info.dtype));
    for (size_t i = batched ? 1 : 0; i < info.dims.size(); ++i)
      tensor.add_dims(AnySize(info.dims[i]));
  }
}

void DescribeVersions(const VersionPolicy& policy, inference::ModelVersionPolicy& message) {
  if (!policy.numbers.empty()) {
    for (const int64_t number : policy.numbers) message.mutable_specific()->add_versions(number);
  } else if (policy.latest == 0) {
    message.mutable_all();
  } else {
    message.mutable_latest()->set_num_versions(static_cast<uint32_t>(policy.latest));
  }
}

void DescribeDuration(const DurationStat& stat, inference::StatisticDuration& message) {
  message.set_count(stat.count);
  message.set_ns(stat.ns);
}

void DescribeDurations(const ModelStats& stats, inference::InferStatistics& message) {
  DescribeDuration(stats.success, *message.mutable_success());
  DescribeDuration(stats.fail, *message.mutable_fail());
  DescribeDuration(stats.queue, *message.mutable_queue());
  DescribeDuration(stats.compute_input, *message.mutable_compute_input());
  DescribeDuration(stats.compute_infer, *message.mutable_compute_infer());
  DescribeDuration(stats.compute_output, *message.mutable_compute_output());
  DescribeDuration(stats.cache_hit, *message.mutable_cache_hit());
  DescribeDuration(stats.cache_miss, *message.mutable_cache_miss());
}

}  // namespace

void DescribeServer(std::string_view server_version, inference::ServerMetadataResponse& message) {
  message.set_name("minim");
  message.set_version(std::string(server_version));
  for (const std::string_view extension : ServerExtensions())
    message.add_extensions(std::string(extension));
}

void DescribeModel(const ServedVersion& version, const std::vector<std::string>& all_versions,
                   inference::ModelMetadataResponse& message) {
  message.set_name(version.model);
  for (const std::string& number : all_versions) message.add_versions(number);
  message.set_platform(std::string(kPlatform));
  DescribeTensors(version.reference().inputs(), *message.mutable_inputs());
  DescribeTensors(version.reference().outputs(), *message.mutable_outputs());
}

void DescribeConfig(const ServedVersion& version, inference::ModelConfig& message) {
  const bool batched = version.max_batch > 0;
  message.set_name(version.model);
  message.set_platform(std::string(kPlatform));
  message.set_backend("minim");
  message.set_max_batch_size(static_cast<int32_t>(version.max_batch));
  ConfigureTensors(version.reference().inputs(), batched, *message.mutable_input());
  ConfigureTensors(version.reference().outputs(), batched, *message.mutable_output());
  const std::shared_ptr<const ServingConfig> config = version.config->Get();
  DescribeVersions(config->versions, *message.mutable_version_policy());
  auto& group = *message.add_instance_group();
  group.set_name(version.model + "_0");
  group.set_kind(inference::ModelInstanceGroup::KIND_CPU);
  group.set_count(config->instances);
  message.mutable_dynamic_batching()->set_max_queue_delay_microseconds(
      static_cast<uint64_t>(QueueDelayMicroseconds(*config)));
  message.mutable_response_cache()->set_enable(config->cache);
}

void DescribeStats(const std::vector<std::shared_ptr<const ServedVersion>>& versions,
                   inference::ModelStatisticsResponse& message) {
  for (const auto& version : versions) {
    auto& model = *message.add_model_stats();
    model.set_name(version->model);
    model.set_version(version->version);
    model.set_last_inference(static_cast<uint64_t>(version->stats->last_inference_ms));
    model.set_inference_count(version->stats->inference_count);
    model.set_execution_count(version->stats->execution_count);
    DescribeDurations(*version->stats, *model.mutable_inference_stats());
  }
}

void DescribeIndex(const std::vector<IndexEntry>& entries, bool only_ready,
                   inference::RepositoryIndexResponse& message) {
  for (const IndexEntry& entry : entries) {
    if (only_ready && !entry.ready) continue;
    auto& model = *message.add_models();
    model.set_name(entry.name);
    model.set_version(entry.version);
    model.set_state(entry.ready ? "READY" : "UNAVAILABLE");
    model.set_reason(entry.reason);
  }
}

}  // namespace minim::serve
