// minim inspect: what is in a model file. minim explain: how minim would run it.
#include <map>

#include "apps/cli.h"
#include "graph/text.h"
#include "onnx/onnx.h"

namespace minim {
namespace {

struct InspectOptions {
  std::string model;
  bool text = false;
};

Status Inspect(const InspectOptions& options) {
  MINIM_TRY(const Graph graph, ImportOnnx(options.model));
  if (options.text) {
    fmt::print("{}", ToText(graph, {.max_constant_elements = 16}));
    return {};
  }
  fmt::print("{}: graph '{}'\n", options.model, graph.name);
  for (ValueId id : graph.inputs)
    fmt::print("  input  {}: {}\n", graph.value(id).name, graph.type(id).ToString());
  for (ValueId id : graph.outputs)
    fmt::print("  output {}: {}\n", graph.value(id).name, graph.type(id).ToString());
  size_t parameters = 0, bytes = 0;
  for (const auto& [id, tensor] : graph.constants) {
    parameters += static_cast<size_t>(tensor.size());
    bytes += tensor.bytes();
  }
  fmt::print("  {} nodes, {} parameters in {} bytes\n", graph.nodes.size(), parameters, bytes);
  std::map<std::string, int> ops;
  for (const Node& node : graph.nodes) ++ops[node.op];
  for (const auto& [op, count] : ops) fmt::print("  {:5} {}\n", count, op);
  for (const auto& [key, value] : graph.metadata) fmt::print("  {} = {}\n", key, value);
  return {};
}

struct ExplainOptions {
  ModelOptions model;
  std::vector<std::string> shapes;
  int64_t batch = 1;
};

Status Explain(const ExplainOptions& options) {
  if (options.model.model.starts_with("http://")) return ExplainServer(options.model.model);
  MINIM_TRY(const std::shared_ptr<Session> session, LoadModel(options.model));
  MINIM_TRY(const std::vector<Dims> dims, InputDims(*session, options.shapes, options.batch));
  MINIM_TRY(session->Warm(dims));
  fmt::print("{}", session->Explain());
  return {};
}

}  // namespace

void AddInspectCommand(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<InspectOptions>();
  CLI::App* verb = AddVerb(app, "inspect", "Show inputs, outputs, operators and size of a model",
                           "minim inspect model.onnx --text", exit_code, [o] {
                             const Status status = Inspect(*o);
                             return status.ok() ? 0 : Report(status);
                           });
  verb->add_option("model", o->model, "ONNX file")->required();
  verb->add_flag("--text", o->text, "Print the whole graph in minim's text form");
}

void AddExplainCommand(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<ExplainOptions>();
  CLI::App* verb = AddVerb(
      app, "explain",
      "Show passes, chosen kernels with reasons, and memory; of a running server, its memory",
      "minim explain model.onnx --batch 8\n"
      "  minim explain http://127.0.0.1:8000",
      exit_code, [o] {
        const Status status = Explain(*o);
        return status.ok() ? 0 : Report(status);
      });
  AddModelOptions(*verb, o->model);
  verb->add_option("--batch", o->batch, "Size of a symbolic leading dim")->capture_default_str();
  verb->add_option("--shape", o->shapes, "NAME=1x3x224x224");
}

}  // namespace minim
