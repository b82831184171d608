// TextReader: the tokens and small pieces that the text form of graphs and samples share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace minim {

class TextReader {
 public:
  explicit TextReader(std::string_view text) : text_(text) {}

  bool AtEnd();
  /// Consumes `token` (after white space) if it is next.
  bool Accept(std::string_view token);
  Status Expect(std::string_view token);
  bool Peek(std::string_view token);
  /// A bare identifier ([A-Za-z_][A-Za-z0-9_.]*) or a quoted string.
  Result<std::string> Name();
  Result<double> Number();
  /// "f32[2,N,?]", "f32", "f32[*]", "seq(f32[*])", "optional(f32)", "map(i64,f32)".
  Result<TensorType> Type();
  /// "[1, 2.5, inf]" or nested; flattened. As text, so that 64-bit integers stay exact. Strings
  /// are quoted.
  Result<std::vector<std::string>> NumberList();
  /// "{a=1, b=[1,2], c=0.5, d=\"x\", to=f16}" or nothing. Sub-graphs are left to `subgraph`.
  Result<Attributes> ParseAttributes(
      std::map<std::string, std::shared_ptr<const Graph>>* subgraphs);
  /// The whole of "graph name(...) -> (...) {...}".
  Result<Graph> ParseGraph();

  /// kInvalidArgument with the line and what stands there.
  Status Error(std::string_view expected) const;

 private:
  friend class GraphParser;
  void SkipSpace();
  std::string Word();
  Result<DType> Element();
  Result<TensorType> Wrapped();
  Result<Attribute> ParseAttribute();
  Result<Attribute> ParseListAttribute();

  std::string_view text_;
  size_t at_ = 0;
};

/// A tensor of `type` (static) from element texts. Errors when the count or a number is wrong.
Result<Tensor> TensorFromTexts(const TensorType& type, const std::vector<std::string>& texts);

}  // namespace minim
