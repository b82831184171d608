// minim run: one inference from files.
#include "apps/cli.h"
#include "core/dtype.h"
#include "core/file.h"
#include "data/npy.h"
#include "data/table_encoding.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

struct Options {
  ModelOptions model;
  std::vector<std::string> inputs;
  std::string output_folder;
};

constexpr int64_t kShown = 16;

std::string TextOf(const Tensor& tensor) {
  std::string text = fmt::format("{}{} ", Name(tensor.dtype()), tensor.dims().ToString());
  const bool strings = tensor.dtype() == DType::string;
  const Tensor wide = strings ? tensor : Converted(tensor.view(), DType::f64);
  for (int64_t i = 0; i < std::min(wide.size(), kShown); ++i)
    text += (i ? ", " : "") + (strings ? fmt::format("'{}'", wide.as<std::string>()[i])
                                       : fmt::format("{:.7g}", wide.as<double>()[i]));
  return text + (wide.size() > kShown ? ", ..." : "");
}

std::string TextOf(const HostValue& value) {
  if (value.tensor()) return TextOf(*value.tensor());
  if (value.map())
    return fmt::format("map of {} to {}", TextOf(value.map()->keys), TextOf(value.map()->values));
  if (value.empty()) return "nothing";
  std::string text = fmt::format("sequence of {}", value.sequence()->size());
  int64_t shown = 0;
  for (const HostValue& item : *value.sequence()) {
    if (shown++ == kShown) return text + "\n  ...";
    text += "\n  " + TextOf(item);
  }
  return text;
}

// Tensors become NAME.npy, the tensors of a sequence NAME_0.npy and so on.
Status Write(const Path& folder, const std::string& name, const HostValue& value) {
  if (value.tensor()) return WriteNpy(folder / (name + ".npy"), value.tensor()->view());
  if (value.map()) {
    MINIM_TRY(Write(folder, name + "_keys", value.map()->keys));
    return Write(folder, name + "_values", value.map()->values);
  }
  if (value.empty()) return {};
  for (size_t i = 0; i < value.sequence()->size(); ++i)
    MINIM_TRY(Write(folder, fmt::format("{}_{}", name, i), (*value.sequence())[i]));
  return {};
}

// The rows of a table, as features of the model: its file says how its training made them.
Result<Tensor> ReadTable(const std::string& model, const std::string& file) {
  MINIM_TRY(const Graph graph, ImportOnnx(model));
  auto encoding = EncodingOf(graph.metadata);
  if (!encoding.ok()) return Annotate(encoding.status(), model);
  MINIM_TRY(const CsvTable table, ReadCsv(file));
  auto features = EncodeFeatures(table, InOrder(table.row_count()), *encoding);
  if (!features.ok()) return Annotate(features.status(), file);
  return features;
}

Result<std::vector<Tensor>> InputsOf(const Session& session, const Options& options) {
  if (options.inputs.size() != 1 || !IsTableFile(options.inputs[0]))
    return ReadInputs(session, options.inputs);
  MINIM_TRY(Tensor table, ReadTable(options.model.model, options.inputs[0]));
  return std::vector<Tensor>{std::move(table)};
}

Status Run(const Options& options) {
  MINIM_TRY(const std::shared_ptr<Session> session, LoadModel(options.model));
  MINIM_TRY(const std::vector<Tensor> inputs, InputsOf(*session, options));
  const std::vector<HostValue> values(inputs.begin(), inputs.end());
  MINIM_TRY(const std::vector<HostValue> outputs, session->Run(values));
  for (size_t i = 0; i < outputs.size(); ++i) {
    fmt::print("{}: {}\n", session->outputs()[i].name, TextOf(outputs[i]));
    if (options.output_folder.empty()) continue;
    std::filesystem::create_directories(options.output_folder);
    std::string name = session->outputs()[i].name;
    std::replace(name.begin(), name.end(), '/', '_');
    MINIM_TRY(Write(options.output_folder, name, outputs[i]));
  }
  return {};
}

}  // namespace

void AddRunCommand(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      AddVerb(app, "run", "Run a model once on inputs from files",
              "minim run model.onnx --input x=features.npy --output-dir answers/", exit_code, [o] {
                const Status status = Run(*o);
                return status.ok() ? 0 : Report(status);
              });
  AddModelOptions(*verb, o->model);
  verb->add_option("--input", o->inputs,
                   "[NAME=]FILE: .npy, .npz or ONNX TensorProto .pb; or FILE.csv, if the model "
                   "was trained on a table");
  verb->add_option("--output-dir", o->output_folder, "Write each output there as .npy");
}

}  // namespace minim
