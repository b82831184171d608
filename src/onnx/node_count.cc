#include "onnx/node_count.h"

#include <google/protobuf/io/coded_stream.h>

#include <algorithm>

namespace minim {
namespace {

enum Message { kModel, kGraph, kNode, kAttribute, kFunction };

// The fields through which nodes are reached.
struct Way {
  Message from;
  int field;
  Message to;
};
constexpr Way kWays[] = {{kModel, 7, kGraph},     {kModel, 25, kFunction}, {kGraph, 1, kNode},
                         {kFunction, 7, kNode},   {kNode, 5, kAttribute},  {kAttribute, 6, kGraph},
                         {kAttribute, 11, kGraph}};

class Counter {
 public:
  Counter(std::string_view bytes, int max_depth)
      : in_(reinterpret_cast<const uint8_t*>(bytes.data()), static_cast<int>(bytes.size())),
        max_depth_(max_depth) {}

  int Run() {
    Walk(kModel, 0);
    return count_;
  }

 private:
  // False once the bytes make no sense.
  bool Walk(Message message, int depth) {
    if (message == kNode) ++count_;
    for (uint32_t tag = in_.ReadTag(); tag != 0; tag = in_.ReadTag()) {
      const Way* way = std::find_if(std::begin(kWays), std::end(kWays), [&](const Way& w) {
        return w.from == message && tag == ((static_cast<uint32_t>(w.field) << 3) | 2);
      });
      if (way == std::end(kWays) || depth >= max_depth_) {
        if (!Skip(tag)) return false;
        continue;
      }
      uint32_t length = 0;
      if (!in_.ReadVarint32(&length)) return false;
      const auto limit = in_.PushLimit(static_cast<int>(length));
      if (!Walk(way->to, depth + 1)) return false;
      in_.PopLimit(limit);
    }
    return true;
  }

  bool Skip(uint32_t tag) {
    uint64_t value = 0;
    uint32_t length = 0, word = 0;
    switch (tag & 7) {
      case 0: return in_.ReadVarint64(&value);
      case 1: return in_.ReadLittleEndian64(&value);
      case 2: return in_.ReadVarint32(&length) && in_.Skip(static_cast<int>(length));
      case 5: return in_.ReadLittleEndian32(&word);
      default: return false;
    }
  }

  google::protobuf::io::CodedInputStream in_;
  int max_depth_;
  int count_ = 0;
};

}  // namespace

int CountNodes(std::string_view bytes, int max_depth) { return Counter(bytes, max_depth).Run(); }

}  // namespace minim
