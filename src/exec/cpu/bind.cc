#include "exec/cpu/bind.h"

#include <set>

#include "kernels/cpu/table.h"

namespace minim {
namespace {

TensorDesc DescOf(const Graph& graph, ValueId id) {
  TensorDesc desc;
  desc.present = id != kNoValue;
  if (!desc.present) return desc;
  desc.dtype = graph.type(id).dtype;
  desc.dims = graph.type(id).dims();
  if (const Tensor* tensor = graph.constant(id)) desc.constant = tensor->data();
  return desc;
}

std::vector<TensorDesc> DescsOf(const Graph& graph, const std::vector<ValueId>& ids) {
  std::vector<TensorDesc> descs;
  for (ValueId id : ids) descs.push_back(DescOf(graph, id));
  return descs;
}

ElementwiseProgram ProgramOf(const Graph& body) {
  ElementwiseProgram program;
  program.input_count = static_cast<int>(body.inputs.size());
  std::map<ValueId, int> registers;
  for (ValueId id : body.inputs) registers.emplace(id, static_cast<int>(registers.size()));
  for (const Node& node : body.nodes) {
    ElementwiseInstruction instruction{.op = node.op};
    for (ValueId id : node.inputs)
      instruction.operands.push_back(id == kNoValue ? -1 : registers.at(id));
    instruction.attributes = node.attributes;
    instruction.dtype = body.type(node.output(0)).dtype;
    registers.emplace(node.output(0), static_cast<int>(registers.size()));
    program.instructions.push_back(std::move(instruction));
  }
  for (ValueId id : body.outputs) program.outputs.push_back(registers.at(id));
  return program;
}

// A request with what it refers to.
struct Request {
  Request(const Graph& graph, const Node& node, Runtime& runtime, int threads)
      : inputs(DescsOf(graph, node.inputs)),
        outputs(DescsOf(graph, node.outputs)),
        request{
            .op = node.op, .attributes = &node.attributes, .inputs = inputs, .outputs = outputs} {
    request.isa = runtime.isa();
    request.threads = threads;
    request.packs = &runtime.packs();
    if (!node.Is("FusedElementwise", kMinimDomain)) return;
    program = ProgramOf(*node.subgraphs.at("body"));
    request.program = &program;
  }
  Request(const Request&) = delete;

  std::vector<TensorDesc> inputs, outputs;
  ElementwiseProgram program;
  KernelRequest request;
};

}  // namespace

bool HasCpuKernel(std::string_view op) {
  static const auto names = [] {
    std::set<std::string_view> set;
    for (const KernelRow& row : CpuKernelTable()) set.insert(row.op);
    return set;
  }();
  return names.contains(op);
}

std::vector<std::string_view> RowsFor(const Graph& graph, const Node& node, Runtime& runtime,
                                      int threads) {
  return FittingRows(Request(graph, node, runtime, threads).request);
}

BoundStep BindNode(const Graph& graph, const Node& node, Runtime& runtime, int threads) {
  Request of(graph, node, runtime, threads);
  if (!runtime.tuning().empty())
    of.request.row = runtime.tuning().RowOf(StepSignature(graph, node, threads));
  auto bound = BindCpuKernel(of.request);
  if (!bound.ok()) return {nullptr, "reference: " + bound.status().message()};
  std::string how = bound->kernel->Describe();
  if (!of.request.row.empty() && bound->row == of.request.row) how += "; as measured";
  for (const std::string& refusal : bound->refusals) how += "; not " + refusal;
  return {std::move(bound->kernel), std::move(how), bound->row};
}

}  // namespace minim
