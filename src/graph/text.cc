#include "graph/text.h"

#include <cctype>

#include "core/dtype.h"
#include "graph/text_reader.h"

namespace minim {
namespace {

bool IsBareName(std::string_view name) {
  if (name.empty() || name == "_" || std::isdigit(static_cast<unsigned char>(name[0])))
    return false;
  if (name == "const" || name == "state" || name == "graph") return false;
  for (char c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '.') return false;
  return true;
}

std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

std::string NameText(std::string_view name) {
  return IsBareName(name) ? std::string(name) : Quoted(name);
}

template <typename T>
std::string Number(T value) {
  if constexpr (kIsStoredFloat<T> || kIsSmallFloat<T>)
    return Number(static_cast<float>(value));
  else if constexpr (kIsSmallInt<T>)
    return Number(static_cast<int64_t>(value));
  else if constexpr (std::is_same_v<T, bool>)
    return value ? "1" : "0";
  else if constexpr (std::is_floating_point_v<T>) {
    std::string text = fmt::format("{}", value);
    return text.find_first_of(".einf") == std::string::npos ? text + ".0" : text;
  } else
    return fmt::format("{}", value);
}

template <typename Range>
std::string List(const Range& values) {
  std::string text = "[";
  for (const auto& value : values) text += (text.size() > 1 ? ", " : "") + Number(value);
  return text + "]";
}

std::string StringList(std::span<const std::string> values) {
  std::string text = "[";
  for (const std::string& value : values) text += (text.size() > 1 ? ", " : "") + Quoted(value);
  return text + "]";
}

std::string TensorText(const ConstView& view) {
  if (view.dtype == DType::string) return StringList(view.as<std::string>());
  return VisitAny(view.dtype, [&]<typename T>() { return List(view.as<T>()); });
}

struct AttributeText {
  std::string operator()(int64_t value) const { return Number(value); }
  std::string operator()(float value) const { return Number(value); }
  std::string operator()(const std::string& value) const { return Quoted(value); }
  std::string operator()(const Tensor& value) const {
    const TensorType type{value.dtype(), ToShape(value.dims())};
    return "tensor " + type.ToString() + " " + TensorText(value.view());
  }
  std::string operator()(const std::vector<int64_t>& values) const { return List(values); }
  std::string operator()(const std::vector<float>& values) const { return List(values); }
  std::string operator()(const std::vector<std::string>& values) const {
    return StringList(values);
  }
  std::string operator()(const TensorType& type) const { return "type " + type.ToString(); }
};

class Printer {
 public:
  Printer(const Graph& graph, const TextOptions& options) : graph_(graph), options_(options) {}

  std::string Print(const std::string& indent) {
    std::string text = "graph " + Quoted(graph_.name) + "(" + Typed(graph_.inputs) + ") -> (";
    for (size_t i = 0; i < graph_.outputs.size(); ++i)
      text += (i ? ", " : "") + NameOf(graph_.outputs[i]);
    text += ") {\n";
    const std::string inner = indent + "  ";
    for (const auto& [id, tensor] : graph_.constants) text += inner + ConstantText(id, tensor);
    for (const State& state : graph_.states) {
      text += inner + "state " + Quoted(state.name) + " (" + NameOf(state.read) + " -> " +
              NameOf(state.next);
      if (state.commit_if != kNoValue) text += " if " + NameOf(state.commit_if);
      text += ": " + graph_.type(state.read).ToString() + ")\n";
    }
    for (const Node& node : graph_.nodes) text += inner + NodeText(node, inner);
    return text + indent + "}";
  }

 private:
  std::string NameOf(ValueId id) const {
    return id == kNoValue ? "_" : NameText(graph_.value(id).name);
  }

  std::string Typed(const std::vector<ValueId>& ids) const {
    std::string text;
    for (ValueId id : ids) {
      text += (text.empty() ? "" : ", ") + NameOf(id);
      if (id != kNoValue) text += ": " + graph_.type(id).ToString();
    }
    return text;
  }

  std::string ConstantText(ValueId id, const Tensor& tensor) const {
    const bool small = tensor.size() <= options_.max_constant_elements;
    return "const " + NameOf(id) + ": " + graph_.type(id).ToString() + " = " +
           (small ? TensorText(tensor.view()) : "[...]") + "\n";
  }

  std::string NodeText(const Node& node, const std::string& indent) const {
    std::string text = Typed(node.outputs) + " = ";
    text += (node.domain.empty() ? "" : node.domain + ".") + node.op + "(";
    for (size_t i = 0; i < node.inputs.size(); ++i)
      text += (i ? ", " : "") + NameOf(node.inputs[i]);
    text += ")";
    std::string items = ToText(node.attributes);
    for (const auto& [name, body] : node.subgraphs)
      items += (items.empty() ? "" : ", ") + name + "=" + Printer(*body, options_).Print(indent);
    if (!items.empty()) text += " {" + items + "}";
    if (!node.name.empty()) text += " " + Quoted(node.name);
    return text + "\n";
  }

  const Graph& graph_;
  const TextOptions& options_;
};

}  // namespace

class GraphParser {
 public:
  explicit GraphParser(TextReader& reader) : in_(reader) {}

  Result<Graph> Run() {
    MINIM_TRY(in_.Expect("graph"));
    if (in_.Peek("\"")) {
      MINIM_TRY(graph_.name, in_.Name());
    }
    MINIM_TRY(Inputs());
    MINIM_TRY(const std::vector<std::string> output_names, OutputNames());
    MINIM_TRY(in_.Expect("{"));
    while (!in_.Accept("}")) MINIM_TRY(Line());
    for (const std::string& name : output_names) {
      MINIM_TRY(const ValueId id, Known(name));
      graph_.outputs.push_back(id);
    }
    for (const PendingState& pending : pending_states_) {
      State& state = graph_.states[pending.index];
      MINIM_TRY(state.next, Known(pending.next));
      if (pending.commit_if.empty()) continue;
      MINIM_TRY(state.commit_if, Known(pending.commit_if));
    }
    MINIM_TRY(Verify(graph_));
    return std::move(graph_);
  }

 private:
  Status Inputs() {
    MINIM_TRY(in_.Expect("("));
    while (!in_.Accept(")")) {
      if (!graph_.inputs.empty()) MINIM_TRY(in_.Expect(","));
      MINIM_TRY(const std::string name, in_.Name());
      MINIM_TRY(in_.Expect(":"));
      MINIM_TRY(TensorType type, in_.Type());
      graph_.AddInput(name, std::move(type));
    }
    return {};
  }

  Result<std::vector<std::string>> OutputNames() {
    std::vector<std::string> names;
    MINIM_TRY(in_.Expect("->"));
    MINIM_TRY(in_.Expect("("));
    while (!in_.Accept(")")) {
      if (!names.empty()) MINIM_TRY(in_.Expect(","));
      MINIM_TRY(std::string name, in_.Name());
      names.push_back(std::move(name));
    }
    return names;
  }

  Status Line() {
    if (in_.Accept("const")) return ConstantLine();
    if (in_.Accept("state")) return StateLine();
    return NodeLine();
  }

  Status ConstantLine() {
    MINIM_TRY(const std::string name, in_.Name());
    MINIM_TRY(in_.Expect(":"));
    MINIM_TRY(const TensorType type, in_.Type());
    MINIM_TRY(in_.Expect("="));
    MINIM_TRY(const std::vector<std::string> texts, in_.NumberList());
    MINIM_TRY(Tensor tensor, TensorFromTexts(type, texts));
    graph_.AddConstant(name, std::move(tensor));
    return {};
  }

  Status StateLine() {
    State state;
    MINIM_TRY(state.name, in_.Name());
    MINIM_TRY(in_.Expect("("));
    MINIM_TRY(const std::string read, in_.Name());
    MINIM_TRY(in_.Expect("->"));
    PendingState pending{.index = graph_.states.size()};
    MINIM_TRY(pending.next, in_.Name());
    if (in_.Accept("if")) {
      MINIM_TRY(pending.commit_if, in_.Name());
    }
    MINIM_TRY(in_.Expect(":"));
    MINIM_TRY(TensorType type, in_.Type());
    MINIM_TRY(in_.Expect(")"));
    state.read = graph_.AddValue(read, std::move(type));
    pending_states_.push_back(std::move(pending));
    graph_.states.push_back(std::move(state));
    return {};
  }

  Status NodeLine() {
    Node node;
    do {
      MINIM_TRY(const std::string name, in_.Name());
      if (name == "_") {
        node.outputs.push_back(kNoValue);
        continue;
      }
      TensorType type;
      if (in_.Accept(":")) {
        MINIM_TRY(type, in_.Type());
      }
      node.outputs.push_back(graph_.AddValue(name, std::move(type)));
    } while (in_.Accept(","));
    MINIM_TRY(in_.Expect("="));
    MINIM_TRY(const std::string op, in_.Name());
    const size_t dot = op.rfind('.');
    node.op = dot == std::string::npos ? op : op.substr(dot + 1);
    node.domain = dot == std::string::npos ? "" : op.substr(0, dot);
    MINIM_TRY(Arguments(node));
    MINIM_TRY(node.attributes, in_.ParseAttributes(&node.subgraphs));
    if (in_.Peek("\"")) return NodeName(std::move(node));
    graph_.nodes.push_back(std::move(node));
    return {};
  }

  // A quoted name after a node is its name, unless a colon or equals sign shows that it starts
  // the next line's outputs.
  Status NodeName(Node node) {
    const TextReader before = in_;
    MINIM_TRY(std::string name, in_.Name());
    if (in_.Peek(":") || in_.Peek("=") || in_.Peek(",")) {
      in_ = before;
    } else {
      node.name = std::move(name);
    }
    graph_.nodes.push_back(std::move(node));
    return {};
  }

  Status Arguments(Node& node) {
    MINIM_TRY(in_.Expect("("));
    while (!in_.Accept(")")) {
      if (!node.inputs.empty()) MINIM_TRY(in_.Expect(","));
      MINIM_TRY(const std::string name, in_.Name());
      ValueId id = kNoValue;
      if (name != "_") {
        MINIM_TRY(id, Known(name));
      }
      node.inputs.push_back(id);
    }
    return {};
  }

  Result<ValueId> Known(const std::string& name) const {
    const ValueId id = graph_.FindValue(name);
    if (id == kNoValue) return InvalidArgument("value '{}' is read but never defined", name);
    return id;
  }

  TextReader& in_;
  Graph graph_;
  struct PendingState {  // names that are defined by later lines
    size_t index = 0;
    std::string next, commit_if = {};
  };
  std::vector<PendingState> pending_states_;
};

Result<Graph> TextReader::ParseGraph() { return GraphParser(*this).Run(); }

std::string ToText(const Attributes& attributes) {
  std::string text;
  for (const auto& [name, value] : attributes.items())
    text += (text.empty() ? "" : ", ") + name + "=" + std::visit(AttributeText(), value);
  return text;
}

std::string ToText(const Graph& graph, const TextOptions& options) {
  return Printer(graph, options).Print("") + "\n";
}

Result<Graph> ParseText(std::string_view text) {
  TextReader reader(text);
  MINIM_TRY(Graph graph, reader.ParseGraph());
  if (!reader.AtEnd()) return reader.Error("the end of the text");
  return graph;
}

}  // namespace minim
