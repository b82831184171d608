#include "compress/channel_axes.h"

#include "compress/remove_channels.h"
#include "compress/testing/small_problems.h"
#include "graph/text.h"
#include "ops/infer.h"

namespace minim {
namespace {

Tensor Noise(const Dims& dims, uint64_t stream) {
  Tensor tensor(DType::f32, dims);
  const Philox rng(5, stream);
  for (int64_t i = 0; i < tensor.size(); ++i)
    tensor.as<float>()[i] = rng.Uniform(static_cast<uint64_t>(i)) - 0.5f;
  return tensor;
}

// The first input is the model's; the others become constants of noise, variances positive.
Graph Model(const std::string& text) {
  auto parsed = ParseText(text);
  EXPECT_TRUE(parsed.ok()) << parsed.status().message();
  Graph graph = std::move(*parsed);
  for (size_t i = 1; i < graph.inputs.size(); ++i) {
    const ValueId id = graph.inputs[i];
    Tensor values = Noise(graph.type(id).dims(), i);
    if (graph.value(id).name.starts_with("var"))
      for (float& value : values.as<float>()) value = value * value + 0.5f;
    graph.constants.emplace(id, std::move(values));
  }
  graph.inputs.resize(1);
  EXPECT_TRUE(InferGraph(graph).ok());
  return graph;
}

// The same shapes, but nobody reads what was removed.
Graph Masked(const Graph& graph, const ChannelAxes& axes, const std::vector<bool>& removed) {
  Graph masked = graph;
  for (const ChannelsOfAxis& axis : axes.axes) {
    if (axis.role != AxisRole::kRead) continue;
    Tensor& tensor = masked.constants.at(axis.constant);
    tensor = tensor.Clone();
    const int64_t inner = tensor.dims().Elements(axis.axis + 1, tensor.dims().rank());
    const auto size = static_cast<int64_t>(axis.channels.size());
    for (int64_t i = 0; i < tensor.size(); ++i) {
      const int channel = axis.channels[i / inner % size];
      if (channel != kStays && removed[channel]) tensor.as<float>()[i] = 0;
    }
  }
  return masked;
}

// Removes every third channel and checks that it is as if nobody had read it. Returns how many
// channels could be removed.
int CheckRemoval(const std::string& text, int64_t batch = 3) {
  const Graph graph = Model(text);
  const auto axes = FindChannelAxes(graph);
  EXPECT_TRUE(axes.ok()) << axes.status().message();
  std::vector<bool> removed(axes->channel_count);
  for (size_t i = 0; i < removed.size(); ++i) removed[i] = i % 3 == 1;
  const auto pruned = RemoveChannels(graph, *axes, removed);
  EXPECT_TRUE(pruned.ok()) << pruned.status().message();
  if (!pruned.ok()) return -1;
  std::vector<int64_t> dims;
  for (const Dim& dim : *graph.type(graph.inputs[0]).shape)
    dims.push_back(dim.known() ? dim.value() : batch);
  const Tensor x = Noise(Dims(dims), 99);
  const Tensor y = RunGraph(graph, x), small = RunGraph(*pruned, x);
  EXPECT_LT(Distance(small, RunGraph(Masked(graph, *axes, removed), x)), 1e-5) << text;
  const bool some = axes->channel_count > 1;
  EXPECT_EQ(Distance(small, y) > 1e-3, some) << "what was removed must matter, or nothing be";
  return axes->channel_count;
}

TEST(ChannelAxesTest, ChainsWithNormsPoolsAndFlatten) {
  EXPECT_EQ(CheckRemoval(R"(graph "g"(x: f32[N,2,8,8], w: f32[6,2,3,3], b: f32[6],
      scale: f32[6], shift: f32[6], mean: f32[6], var: f32[6], v: f32[5,6,3,3], m: f32[5,45],
      c: f32[5], o: f32[5,3]) -> (y) {
    c1 = Conv(x, w, b) {pads=[1,1,1,1]}
    n1 = BatchNormalization(c1, scale, shift, mean, var)
    r1 = Sigmoid(n1)
    p1 = AveragePool(r1) {kernel_shape=[2,2], strides=[2,2]}
    c2 = Conv(p1, v) {strides=[1,1], pads=[0,0,1,1]}
    r2 = Relu(c2)
    f = Flatten(r2)
    g = Gemm(f, m, c) {transB=1}
    t = Tanh(g)
    y: f32[N,3] = MatMul(t, o) })"),
            6 + 5 + 5);
}

TEST(ChannelAxesTest, WhatIsAddedUpIsOneChannel) {
  // Two residual blocks, of which the first has a projection; b is broadcast over the batch.
  EXPECT_EQ(CheckRemoval(R"(graph "g"(x: f32[N,2,5,5], p: f32[6,2,1,1], w1: f32[4,2,3,3],
      w2: f32[6,4,3,3], w3: f32[7,6,3,3], w4: f32[6,7,3,3], b: f32[6,1,1], o: f32[6,3]) -> (y) {
    s = Conv(x, p)
    h1 = Conv(x, w1) {pads=[1,1,1,1]}
    r1 = Relu(h1)
    h2 = Conv(r1, w2) {pads=[1,1,1,1]}
    a1 = Add(h2, s)
    e1 = Exp(a1)
    h3 = Conv(e1, w3) {pads=[1,1,1,1]}
    h4 = Conv(h3, w4) {pads=[1,1,1,1]}
    a2 = Add(e1, h4)
    a3 = Add(a2, b)
    g = GlobalAveragePool(a3)
    f = Flatten(g)
    y: f32[N,3] = MatMul(f, o) })"),
            6 + 4 + 7);
}

TEST(ChannelAxesTest, ConcatKeepsItsPartsApart) {
  EXPECT_EQ(CheckRemoval(R"(graph "g"(x: f32[N,2,4,4], w1: f32[3,2,1,1], w2: f32[4,2,3,3],
      scale: f32[9], shift: f32[9], mean: f32[9], var: f32[9], w3: f32[5,9,1,1], o: f32[80,3])
      -> (y) {
    a = Conv(x, w1)
    b = Conv(x, w2) {pads=[1,1,1,1]}
    c = Concat(a, x, b) {axis=1}
    n = BatchNormalization(c, scale, shift, mean, var)
    d = Conv(n, w3)
    const shape: i64[2] = [-1, 80]
    f = Reshape(d, shape)
    y: f32[N,3] = MatMul(f, o) })"),
            3 + 4 + 5);
}

TEST(ChannelAxesTest, DepthwiseFiltersGoWithTheirChannels) {
  EXPECT_EQ(CheckRemoval(R"(graph "g"(x: f32[N,2,6,6], w1: f32[6,2,1,1], w2: f32[12,1,3,3],
      b: f32[12], w3: f32[4,12,1,1], o: f32[4,3]) -> (y) {
    a = Conv(x, w1)
    d = Conv(a, w2, b) {group=6, pads=[1,1,1,1]}
    e = HardSwish(d)
    g = Conv(e, w3)
    const axes: i64[2] = [2, 3]
    m = ReduceMean(g, axes) {keepdims=0}
    y: f32[N,3] = MatMul(m, o) })"),
            6 + 4);
}

TEST(ChannelAxesTest, TokensAndTransposedConvolutions) {
  // A patch embedding: channels move to the last axis.
  EXPECT_EQ(CheckRemoval(R"(graph "g"(x: f32[2,2,8,8], w: f32[6,2,4,4], e: f32[1,4,6], m: f32[6,7],
      b: f32[7], o: f32[7,6], q: f32[6,3]) -> (y) {
    p = Conv(x, w) {strides=[4,4]}
    const shape: i64[3] = [2, 6, 4]
    s = Reshape(p, shape)
    t = Transpose(s) {perm=[0,2,1]}
    u = Add(t, e)
    h = MatMul(u, m)
    i = Add(b, h)
    j = Gelu(i)
    k = MatMul(j, o)
    l = Add(u, k)
    const axes: i64[1] = [1]
    n = ReduceMean(l, axes) {keepdims=0}
    y = MatMul(n, q) })"),
            6 + 7);
  EXPECT_EQ(CheckRemoval(R"(graph "g"(x: f32[N,2,4,4], w: f32[5,2,3,3], v: f32[5,6,2,2], b: f32[6],
      o: f32[1,6,1,1]) -> (y) {
    a = Conv(x, w)
    r = Relu(a)
    c = ConvTranspose(r, v, b) {strides=[2,2]}
    y = Conv(c, o) })"),
            5 + 6);
}

TEST(ChannelAxesTest, HeadsOfAttentionGoWhole) {
  // Four heads of three; k is transposed in another order than q and v.
  EXPECT_EQ(CheckRemoval(R"(graph "g"(x: f32[N,5,6], wq: f32[6,12], bq: f32[12], wk: f32[6,12],
      wv: f32[6,12], wo: f32[12,6], o: f32[6,2]) -> (y) {
    const heads: i64[4] = [0, 0, 4, 3]
    const whole: i64[3] = [0, 0, 12]
    const half: f32 = [0.5]
    q0 = MatMul(x, wq)
    q1 = Add(q0, bq)
    q2 = Reshape(q1, heads)
    q = Transpose(q2) {perm=[0,2,1,3]}
    k0 = MatMul(x, wk)
    k1 = Reshape(k0, heads)
    k = Transpose(k1) {perm=[0,2,3,1]}
    v0 = MatMul(x, wv)
    v1 = Reshape(v0, heads)
    v = Transpose(v1) {perm=[0,2,1,3]}
    s0 = MatMul(q, k)
    s1 = Mul(s0, half)
    s = Softmax(s1) {axis=-1}
    a0 = MatMul(s, v)
    a1 = Transpose(a0) {perm=[0,2,1,3]}
    a = Reshape(a1, whole)
    z = MatMul(a, wo)
    r = Add(z, x)
    y = MatMul(r, o) })"),
            4);
}

TEST(ChannelAxesTest, GroupsOfANormalisationGoWhole) {
  EXPECT_EQ(CheckRemoval(R"(graph "g"(x: f32[2,2,4,4], w: f32[8,2,3,3], ones: f32[4], zeros: f32[4],
      scale: f32[8,1,1], o: f32[3,8,1,1]) -> (y) {
    const groups: i64[3] = [0, 4, -1]
    const back: i64[4] = [2, 8, 4, 4]
    a = Conv(x, w) {pads=[1,1,1,1]}
    b = Reshape(a, groups)
    c = InstanceNormalization(b, ones, zeros)
    d = Reshape(c, back)
    e = Mul(d, scale)
    y = Conv(e, o) })"),
            4);
}

TEST(ChannelAxesTest, GatesShareTheChannelsTheyMultiply) {
  EXPECT_EQ(CheckRemoval(R"(graph "g"(x: f32[N,2,4,4], w: f32[6,2,3,3], s1: f32[4,6,1,1],
      s2: f32[6,4,1,1], k: f32[1,6,1,1], o: f32[5,6,1,1]) -> (y) {
    a = Conv(x, w)
    g = GlobalAveragePool(a)
    h = Conv(g, s1)
    r = Relu(h)
    t = Conv(r, s2)
    u = Sigmoid(t)
    m = Mul(a, u)
    spatial = Conv(m, k)
    z = Sigmoid(spatial)
    n = Mul(m, z)
    y = Conv(n, o) })"),
            6 + 4);
}

TEST(ChannelAxesTest, WhatIsNotUnderstoodStays) {
  // Softmax over the channels, a slice of them, a matrix product of two values, a grouped
  // convolution, weights that are read twice in different ways, and the output itself.
  const char* whole[] = {
      R"(graph "g"(x: f32[N,4], w: f32[4,6], o: f32[6,3]) -> (y) {
        a = MatMul(x, w)
        s = Softmax(a)
        y = MatMul(s, o) })",
      R"(graph "g"(x: f32[N,4], w: f32[4,6], o: f32[3,3]) -> (y) {
        a = MatMul(x, w)
        const from: i64[1] = [0]
        const to: i64[1] = [3]
        const axis: i64[1] = [1]
        s = Slice(a, from, to, axis)
        y = MatMul(s, o) })",
      R"(graph "g"(x: f32[2,4,4], w: f32[4,6]) -> (y) {
        a = MatMul(x, w)
        t = Transpose(a) {perm=[0,2,1]}
        y = MatMul(a, t) })",
      R"(graph "g"(x: f32[2,3,4], w: f32[4,6]) -> (y) {
        a = MatMul(x, w)
        t = Transpose(a) {perm=[2,0,1]}
        u = Transpose(a) {perm=[0,2,1]}
        const shape: i64[3] = [6, 3, 2]
        r = Reshape(u, shape)
        y = MatMul(t, r) })",
      R"(graph "g"(x: f32[N,2,4,4], w: f32[6,2,1,1], v: f32[4,3,1,1]) -> (y) {
        a = Conv(x, w)
        y = Conv(a, v) {group=2} })",
      R"(graph "g"(x: f32[N,4], w: f32[4,4], o: f32[4,3]) -> (y) {
        a = MatMul(x, w)
        const axes: i64[1] = [1]
        m = ReduceMean(w, axes) {keepdims=0}
        b = Add(a, m)
        y = MatMul(b, o) })",
      R"(graph "g"(x: f32[N,4], w: f32[4,6]) -> (a) {
        a = MatMul(x, w) })"};
  for (const char* text : whole) EXPECT_EQ(CheckRemoval(text), 0) << text;
  // A normalisation across channels stops those that reach it and no others.
  EXPECT_EQ(CheckRemoval(R"(graph "g"(x: f32[N,4], w: f32[4,6], s: f32[6], b: f32[6], v: f32[6,5],
      o: f32[5,3]) -> (y) {
    a = MatMul(x, w)
    n = LayerNormalization(a, s, b)
    c = MatMul(n, v)
    y = MatMul(c, o) })"),
            5);
  const auto axes = FindChannelAxes(Model(whole[0]));
  ASSERT_EQ(axes->obstacles.size(), 1u);
  EXPECT_NE(axes->obstacles[0].find("Softmax"), std::string::npos);
}

TEST(ChannelAxesTest, OneWeightForTwoLayersIsCutForBoth) {
  EXPECT_EQ(CheckRemoval(R"(graph "g"(x: f32[N,4], w: f32[4,6], v: f32[6,6], o: f32[6,3]) -> (y) {
    a = MatMul(x, w)
    b = MatMul(a, v)
    r = Relu(b)
    c = MatMul(r, v)
    y = MatMul(c, o) })"),
            6);
}

}  // namespace
}  // namespace minim
