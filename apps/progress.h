// A progress line on a terminal: "\r" and an estimate; plain lines now and then elsewhere.
#pragma once

#include <chrono>
#include <string>

namespace minim {

class ProgressBar {
 public:
  ProgressBar();
  /// Draws at most ten times a second. `fraction` in [0, 1].
  void Update(double fraction, const std::string& text);
  /// Ends the line.
  void Finish(const std::string& text);

 private:
  using Clock = std::chrono::steady_clock;
  const bool tty_;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point drawn_{};
};

}  // namespace minim
