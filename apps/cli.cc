#include "apps/cli.h"

#include <charconv>
#include <cstdio>

#include "core/dtype.h"
#include "core/file.h"
#include "core/philox.h"
#include "data/npy.h"
#include "onnx/onnx.h"

namespace minim {

int Report(const Status& status) {
  fmt::print(stderr, "minim: {}\n", status.message());
  const bool usage =
      status.code() == StatusCode::kInvalidArgument || status.code() == StatusCode::kNotFound ||
      status.code() == StatusCode::kDataLoss || status.code() == StatusCode::kUnsupported;
  return usage ? kExitUsage : kExitFailed;
}

CLI::App* AddVerb(CLI::App& app, const std::string& name, const std::string& help,
                  const std::string& example, int& exit_code, std::function<int()> run) {
  CLI::App* verb = app.add_subcommand(name, help);
  verb->footer("Example:\n  " + example);
  verb->callback([&exit_code, run = std::move(run)] { exit_code = run(); });
  return verb;
}

void AddModelOptions(CLI::App& verb, ModelOptions& options) {
  verb.add_option("model", options.model, "ONNX file")->required();
  verb.add_option("--threads", options.threads, "Threads one run may use")->capture_default_str();
  verb.add_option("--precision", options.precision,
                  "fp32, bf16, or int8 (the model file is already quantized)")
      ->capture_default_str();
  verb.add_option("--skip-pass", options.skip_passes, "Leave a pass out, by name (see explain)");
}

Result<std::shared_ptr<Session>> LoadModel(const ModelOptions& options) {
  SessionOptions session{.threads = options.threads, .skip_passes = options.skip_passes};
  if (options.precision == "bf16") {
    session.precision = Precision::kBf16;
  } else if (options.precision != "fp32" && options.precision != "int8") {
    return InvalidArgument("precision '{}' is unknown; expected fp32, bf16 or int8",
                           options.precision);
  }
  return Session::Load(options.model, session);
}

namespace {

int FindInput(const Session& session, std::string_view name) {
  for (size_t i = 0; i < session.inputs().size(); ++i)
    if (session.inputs()[i].name == name) return static_cast<int>(i);
  return -1;
}

std::string InputNames(const Session& session) {
  std::vector<std::string> names;
  for (const TensorInfo& input : session.inputs()) names.push_back(input.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

Result<std::vector<NamedTensor>> ReadTensors(const std::string& file) {
  if (file.ends_with(".npz")) return ReadNpz(file);
  if (file.ends_with(".npy")) {
    MINIM_TRY(Tensor tensor, ReadNpy(file));
    return std::vector<NamedTensor>{{"", std::move(tensor)}};
  }
  if (!file.ends_with(".pb"))
    return InvalidArgument("{}: unknown kind of input file; expected .npy, .npz or .pb", file);
  MINIM_TRY(const std::string bytes, ReadFile(file));
  auto tensor = ParseTensorProto(bytes);
  if (!tensor.ok()) return Annotate(tensor.status(), file);
  return std::vector<NamedTensor>{{"", *std::move(tensor)}};
}

}  // namespace

Result<std::vector<Tensor>> ReadInputs(const Session& session,
                                       const std::vector<std::string>& files) {
  std::vector<Tensor> inputs(session.inputs().size());
  size_t next = 0;
  for (const std::string& argument : files) {
    const size_t equals = argument.find('=');
    std::string name = equals == std::string::npos ? "" : argument.substr(0, equals);
    const std::string file = equals == std::string::npos ? argument : argument.substr(equals + 1);
    MINIM_TRY(std::vector<NamedTensor> tensors, ReadTensors(file));
    for (NamedTensor& named : tensors) {
      if (name.empty()) name = named.name;
      const int index = name.empty() ? static_cast<int>(next++) : FindInput(session, name);
      if (index < 0 || index >= static_cast<int>(inputs.size()))
        return InvalidArgument("{}: '{}' is no input of the model; it has: {}", file, name,
                               InputNames(session));
      inputs[index] = std::move(named.tensor);
      name.clear();
    }
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined())
      return InvalidArgument("input '{}' was not given; pass {}=FILE (.npy, .npz or .pb)",
                             session.inputs()[i].name, session.inputs()[i].name);
  }
  return inputs;
}

namespace {

Result<Dims> ParseDims(const std::string& text) {
  Dims dims;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at < end) {
    int64_t size = 0;
    const auto [next, error] = std::from_chars(at, end, size);
    if (error != std::errc() || size < 0 || dims.rank() == kMaxRank)
      return InvalidArgument("shape '{}' is malformed; expected e.g. 1x3x224x224", text);
    dims.push_back(size);
    at = next;
    if (at < end && *at++ != 'x')
      return InvalidArgument("shape '{}' is malformed; expected e.g. 1x3x224x224", text);
  }
  return dims;
}

}  // namespace

Result<std::vector<Dims>> InputDims(const Session& session, const std::vector<std::string>& shapes,
                                    int64_t batch) {
  std::vector<Dims> dims(session.inputs().size());
  std::vector<bool> given(dims.size(), false);
  for (const TensorInfo& input : session.inputs())
    if (!input.other_type.empty() || input.dtype == DType::string)
      return Unsupported("input '{}' is {}: dims alone do not make one; use minim run", input.name,
                         input.other_type.empty() ? "string" : input.other_type);
  for (const std::string& shape : shapes) {
    const size_t equals = shape.find('=');
    const std::string name = equals == std::string::npos ? "" : shape.substr(0, equals);
    const int index = equals == std::string::npos ? 0 : FindInput(session, name);
    if (index < 0)
      return InvalidArgument("--shape {}: the model has no input '{}'; it has: {}", shape, name,
                             InputNames(session));
    MINIM_TRY(dims[index],
              ParseDims(equals == std::string::npos ? shape : shape.substr(equals + 1)));
    given[index] = true;
  }
  for (size_t i = 0; i < dims.size(); ++i) {
    if (given[i]) continue;
    const TensorInfo& input = session.inputs()[i];
    if (!input.ranked)
      return InvalidArgument("input '{}' declares no shape; pass --shape {}=1x...", input.name,
                             input.name);
    for (size_t axis = 0; axis < input.dims.size(); ++axis) {
      if (input.dims[axis] < 0 && axis > 0)
        return InvalidArgument("input '{}' has a symbolic dim '{}'; pass --shape {}=1x...",
                               input.name, input.symbols[axis], input.name);
      dims[i].push_back(input.dims[axis] < 0 ? batch : input.dims[axis]);
    }
  }
  return dims;
}

std::vector<Tensor> RandomInputs(const Session& session, const std::vector<Dims>& dims,
                                 uint64_t seed) {
  std::vector<Tensor> inputs;
  const Philox rng(seed);
  uint64_t drawn = 0;
  for (size_t i = 0; i < dims.size(); ++i) {
    Tensor values(DType::f32, dims[i]);
    const bool ints = IsInteger(session.inputs()[i].dtype);
    for (float& v : values.as<float>())
      v = ints ? std::floor(rng.Uniform(drawn++) * 8) : rng.Uniform(drawn++);
    inputs.push_back(Converted(values.view(), session.inputs()[i].dtype));
  }
  return inputs;
}

}  // namespace minim
