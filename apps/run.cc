// minim run: one inference from files.
#include "apps/cli.h"
#include "core/dtype.h"
#include "core/file.h"
#include "data/npy.h"

namespace minim {
namespace {

struct Options {
  ModelOptions model;
  std::vector<std::string> inputs;
  std::string output_folder;
};

void PrintTensor(const TensorInfo& info, const Tensor& tensor) {
  constexpr int64_t kShown = 16;
  fmt::print("{}: {}{} ", info.name, Name(tensor.dtype()), tensor.dims().ToString());
  const Tensor wide = Converted(tensor.view(), DType::f64);
  for (int64_t i = 0; i < std::min(wide.size(), kShown); ++i)
    fmt::print("{}{:.7g}", i ? ", " : "", wide.as<double>()[i]);
  fmt::print("{}\n", wide.size() > kShown ? ", ..." : "");
}

Status Run(const Options& options) {
  MINIM_TRY(const std::shared_ptr<Session> session, LoadModel(options.model));
  MINIM_TRY(const std::vector<Tensor> inputs, ReadInputs(*session, options.inputs));
  std::vector<ConstView> views;
  for (const Tensor& input : inputs) views.push_back(input.view());
  MINIM_TRY(const std::vector<Tensor> outputs, session->Run(views));
  for (size_t i = 0; i < outputs.size(); ++i) {
    PrintTensor(session->outputs()[i], outputs[i]);
    if (options.output_folder.empty()) continue;
    std::filesystem::create_directories(options.output_folder);
    std::string name = session->outputs()[i].name;
    std::replace(name.begin(), name.end(), '/', '_');
    MINIM_TRY(WriteNpy(Path(options.output_folder) / (name + ".npy"), outputs[i].view()));
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
  verb->add_option("--input", o->inputs, "[NAME=]FILE: .npy, .npz or ONNX TensorProto .pb");
  verb->add_option("--output-dir", o->output_folder, "Write each output there as .npy");
}

}  // namespace minim
