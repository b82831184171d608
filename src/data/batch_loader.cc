#include "data/batch_loader.h"

namespace minim {
namespace {

constexpr size_t kAhead = 2;

}  // namespace

BatchLoader::BatchLoader(DataSource& data, const BatchOrder& order)
    : data_(data),
      batch_size_(order.batch_size),
      batch_count_(order.batch_count >= 0 ? order.batch_count : data.size() / order.batch_size),
      order_(order.shuffle ? ShuffledOrder(data.size(), order.seed, order.epoch)
                           : InOrder(data.size())),
      next_to_read_(order.first_batch),
      next_to_make_(order.first_batch),
      thread_([this] { Loop(); }) {}

BatchLoader::~BatchLoader() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void BatchLoader::Loop() {
  while (true) {
    int64_t index = 0;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stop_ || ready_.size() < kAhead; });
      if (stop_ || next_to_make_ >= batch_count_) return;
      index = next_to_make_++;
    }
    auto batch = data_.Gather(std::span(order_).subspan(index * batch_size_, batch_size_));
    {
      std::lock_guard lock(mutex_);
      if (batch.ok()) {
        ready_.push_back(*std::move(batch));
      } else {
        failed_ = batch.status();
        stop_ = true;
      }
    }
    changed_.notify_all();
  }
}

Result<std::optional<Batch>> BatchLoader::Next() {
  std::unique_lock lock(mutex_);
  if (next_to_read_ >= batch_count_) return std::optional<Batch>();
  changed_.wait(lock, [this] { return !ready_.empty() || !failed_.ok(); });
  if (ready_.empty()) return failed_;
  std::optional<Batch> batch = std::move(ready_.front());
  ready_.erase(ready_.begin());
  ++next_to_read_;
  changed_.notify_all();
  return batch;
}

}  // namespace minim
