// What is cached is what would be computed, whatever the requests, the caches and their troubles.
#include "serve/protocol/answering.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <random>
#include <thread>

#include "core/dtype.h"
#include "serve/testing/fake_model.h"
#include "serve/testing/redis_server.h"

namespace minim::serve {
namespace {

using std::chrono::seconds;

// x of any dtype [N, width], any width -> its bytes again, and a number that depends on all there
// is: the file's text, the tier, dtype, width and bytes of a row.
class MixingModel : public Model {
 public:
  MixingModel(DType dtype, uint64_t salt)
      : salt_(salt),
        inputs_{{"x", dtype, {-1, -1}, {"N", "W"}}},
        outputs_{{"same", dtype, {-1, -1}, {"N", "W"}}, {"mixed", DType::i64, {-1}, {"N"}}} {}

  const std::vector<TensorInfo>& inputs() const override { return inputs_; }
  const std::vector<TensorInfo>& outputs() const override { return outputs_; }
  Status Warm(std::span<const Dims>) const override { return {}; }
  SessionMemory memory() const override { return {}; }
  void Trim() const override {}
  Result<std::vector<Tensor>> Run(std::span<const ConstView> inputs) const override {
    const ConstView& x = inputs[0];
    const int64_t rows = x.dims[0];
    Tensor mixed(DType::i64, {rows});
    const size_t row_bytes = x.bytes() / static_cast<size_t>(rows);
    for (int64_t i = 0; i < rows; ++i) {
      SipHash128 hash({salt_, static_cast<uint64_t>(x.dtype)});
      hash.UpdateNumber(static_cast<uint64_t>(x.dims[1]));
      hash.UpdateFramed({static_cast<const char*>(x.data) + i * row_bytes, row_bytes});
      mixed.as<int64_t>()[i] = static_cast<int64_t>(hash.Finish().low);
    }
    ++runs_;
    return std::vector<Tensor>{Tensor::Copy(x), mixed};
  }

  mutable std::atomic<int> runs_{0};

 private:
  const uint64_t salt_;
  const std::vector<TensorInfo> inputs_, outputs_;
};

constexpr DType kDTypes[] = {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i8,
                             DType::u8,  DType::i32, DType::i64, DType::bool_};

class AnsweringTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = Path(testing::TempDir()) / ("minim_answering_" + std::to_string(::getpid()));
    std::filesystem::remove_all(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }

  // A server of its own but for the files.
  struct Server {
    std::unique_ptr<Repository> repository;
    std::shared_ptr<PredictionCache> cache;
    std::shared_ptr<Answering> answering;
  };
  Server Serve(const std::string& cache, ModelLoader loader) {
    Server server;
    auto opened =
        Repository::Open(root_, {.loader = std::move(loader), .digest_files = IsShared(cache)},
                         std::make_shared<Metrics>());
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    server.repository = std::move(*opened);
    EXPECT_TRUE(server.repository->LoadAll().ok());
    server.cache = OpenCache(cache, Clock::now).value();
    server.answering = std::make_shared<Answering>(AnsweringOptions{server.cache});
    return server;
  }

  // A loader of models whose dtype is their folder's name and whose salt is their file's text.
  static Result<std::shared_ptr<Model>> Mixing(const TierSource& source) {
    MINIM_TRY(const std::string text, ReadFile(source.path));
    const std::string file = source.path.string();
    for (const DType dtype : kDTypes)
      if (file.find("/" + std::string(Name(dtype)) + "/") != file.npos)
        return std::shared_ptr<Model>(
            std::make_shared<MixingModel>(dtype, std::hash<std::string>()(text)));
    return NotFound("{}: of which dtype?", file);
  }

  static Question Ask(const Server& server, const std::string& model, const std::string& version,
                      const std::string& tier, Tensor x, std::vector<std::string> outputs) {
    Question question;
    question.version = server.repository->Find(model, version).value();
    question.tier = question.version->tiers.at(tier);
    auto request = std::make_shared<InferRequest>();
    request->inputs.push_back({"x", std::move(x)});
    for (std::string& output : outputs) request->outputs.push_back({std::move(output)});
    question.request = request;
    return question;
  }

  static void ExpectSame(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_EQ(a[i].dtype(), b[i].dtype());
      ASSERT_EQ(a[i].dims(), b[i].dims());
      EXPECT_EQ(std::memcmp(a[i].data(), b[i].data(), a[i].bytes()), 0);
    }
  }

  Path root_;
};

// Random requests of few kinds, so that many are alike in all but one thing.
class RandomRequests {
 public:
  explicit RandomRequests(uint32_t seed) : random_(seed) {}

  Question Next(
      const std::function<Question(const std::string&, const std::string&, const std::string&,
                                   Tensor, std::vector<std::string>)>& ask) {
    const DType dtype = kDTypes[Below(std::size(kDTypes))];
    const Dims dims = kDims[Below(std::size(kDims))];
    Tensor x(dtype, dims);
    // One of few contents: bytes that are the same for every dtype and shape of as many.
    std::memset(x.data(), dtype == DType::bool_ ? 0 : static_cast<int>(Below(3)), x.bytes());
    std::vector<std::vector<std::string>> lists = {
        {"same"}, {"mixed"}, {"same", "mixed"}, {"mixed", "same"}};
    return ask(std::string(Name(dtype)), Below(2) == 0 ? "1" : "2", Below(2) == 0 ? "fp32" : "int8",
               std::move(x), lists[Below(lists.size())]);
  }

 private:
  inline static const Dims kDims[] = {{1, 12}, {2, 6}, {3, 4}, {4, 3}, {6, 2}, {1, 6}};
  size_t Below(size_t n) { return random_() % n; }

  std::mt19937 random_;
};

TEST_F(AnsweringTest, CachedIsUncached) {
  MINIM_NEEDS_REDIS();
  for (const DType dtype : kDTypes) {
    const std::string name(Name(dtype));
    for (const std::string version : {"/1/", "/2/"}) {
      Write(name + version + "model.onnx", name + version);
      Write(name + version + "variants/int8.onnx", name + version + "int8");
    }
    Write(name + "/minim.toml", "[serving]\nversions = \"all\"\n");
  }
  RedisServer redis;
  const std::string shared = "memory://?bytes=256KiB," + redis.Url("deadline=300ms");
  const Server servers[] = {Serve(shared, Mixing), Serve(shared, Mixing),
                            Serve("memory://?bytes=256KiB", Mixing)};
  RandomRequests requests(7);
  uint64_t hits = 0;
  for (int i = 0; i < 4000; ++i) {
    if (i == 1000) redis.Kill();
    if (i == 1300) redis.Start();
    if (i == 2000) redis.Freeze();
    if (i == 2300) redis.Thaw();
    const Server& server = servers[i % 3];
    const Question question = requests.Next(
        [&](auto&&... parts) { return Ask(server, std::forward<decltype(parts)>(parts)...); });
    const ConstView views[] = {question.request->inputs[0].tensor.view()};
    const std::vector<Tensor> all = question.tier->model->Run(views).value();
    std::vector<Tensor> expected;
    for (const RequestedOutput& output : question.request->outputs)
      expected.push_back(all[output.name == "same" ? 0 : 1]);
    std::promise<Answered> promise;
    server.answering->Answer(question, [&](const Answered& answer) { promise.set_value(answer); });
    const Answered answer = promise.get_future().get();
    ASSERT_TRUE(answer.outputs.ok()) << i << ": " << answer.outputs.status().message();
    ExpectSame(*answer.outputs, expected);
    hits += answer.cache_hit;
  }
  EXPECT_GT(hits, 1000u);
  for (const Server& server : servers) {
    const CacheStats stats = server.answering->cache_stats();
    EXPECT_GT(stats.hits, 100u);
    EXPECT_GT(stats.raw_bytes, 0u);
  }
}

class DoublingTest : public AnsweringTest {
 protected:
  Server ServeDoubling(const std::string& cache) {
    Write("m/1/model.onnx", "the model");
    return Serve(cache, [this](const TierSource&) { return std::shared_ptr<Model>(model_); });
  }
  Question AskFor(const Server& server, float value) {
    return Ask(server, "m", "1", "fp32", Tensor::From<float>({1, 2}, {value, value}), {"y"});
  }
  Answered AnswerOf(const Server& server, float value) {
    std::promise<Answered> promise;
    server.answering->Answer(AskFor(server, value),
                             [&](const Answered& answer) { promise.set_value(answer); });
    return promise.get_future().get();
  }

  std::shared_ptr<FakeModel> model_ = std::make_shared<FakeModel>(2);
};

// Whether they come while the first one runs or just after it.
TEST_F(DoublingTest, AThousandEqualRequestsRunOnce) {
  const Server server = ServeDoubling("memory://");
  for (int round = 0; round < 5; ++round) {
    const int before = model_->runs_;
    std::atomic<int> answered{0}, wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 250; ++i) {
          const float value = static_cast<float>(round + 1);
          server.answering->Answer(AskFor(server, value), [&, value](const Answered& answer) {
            wrong += !answer.outputs.ok() || answer.outputs->at(0).as<float>()[1] != 2 * value;
            ++answered;
          });
        }
      });
    }
    for (auto& thread : threads) thread.join();
    while (answered < 1000) std::this_thread::yield();
    EXPECT_EQ(model_->runs_, before + 1);
    EXPECT_EQ(wrong, 0);
  }
  const CacheStats stats = server.answering->cache_stats();
  EXPECT_EQ(stats.hits, 5 * 999u);
  EXPECT_EQ(stats.misses, 5u);
}

TEST_F(DoublingTest, AnotherServerKnowsTheAnswerUntilTheFileChanges) {
  MINIM_NEEDS_REDIS();
  const RedisServer redis;
  const std::string cache = "memory://?bytes=1MiB," + redis.Url();
  const Server first = ServeDoubling(cache);
  const Server second = ServeDoubling(cache);
  float value = 0;  // until both have found the server
  while (!AnswerOf(second, value).cache_hit) AnswerOf(first, ++value);
  const int runs = model_->runs_;
  EXPECT_TRUE(AnswerOf(second, value).cache_hit);
  EXPECT_EQ(model_->runs_, runs);

  const Server same =
      Serve(cache, [this](const TierSource&) { return std::shared_ptr<Model>(model_); });
  float known = value;
  while (!AnswerOf(same, known).cache_hit) AnswerOf(first, known += 1);  // its link is up
  Write("m/1/model.onnx", "another model");
  ASSERT_TRUE(same.repository->Load("m").ok());
  EXPECT_FALSE(AnswerOf(same, value).cache_hit);
}

// Others may write into a shared cache whatever they like.
TEST_F(DoublingTest, BytesThatAreNoAnswerAreComputedAgain) {
  MINIM_NEEDS_REDIS();
  const RedisServer redis;
  const std::string cache = redis.Url();
  const Server server = ServeDoubling(cache);
  float value = 0;
  do {
    AnswerOf(server, ++value);
  } while (!AnswerOf(server, value).cache_hit);
  const RedisReply key = redis.Ask({"RANDOMKEY"});
  AnswerCodec codec;
  const std::string of_ints = codec.Encode({{Tensor::From<int32_t>({2}, {1, 2})}});
  const std::string none = codec.Encode({});
  const std::string wide = codec.Encode({{Tensor::From<float>({1, 3}, {1, 2, 3})}});
  for (const std::string& bytes : {std::string("rubbish"), of_ints, wide, none}) {
    redis.Ask({"FLUSHALL"});
    for (float v = 1; v <= value; ++v) AnswerOf(server, v);
    redis.Ask({"SET", key.text, bytes});
    for (float v = 1; v <= value; ++v) {
      const Answered answer = AnswerOf(server, v);
      ASSERT_TRUE(answer.outputs.ok());
      ASSERT_EQ(answer.outputs->at(0).dtype(), DType::f32);
      EXPECT_EQ(answer.outputs->at(0).as<float>()[0], 2 * v);
    }
  }
}

}  // namespace
}  // namespace minim::serve
