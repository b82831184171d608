#include "apps/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace minim {

ProgressBar::ProgressBar() : tty_(isatty(STDERR_FILENO) != 0) {}

void ProgressBar::Update(double fraction, const std::string& text) {
  const auto now = Clock::now();
  const auto pause = tty_ ? std::chrono::milliseconds(100) : std::chrono::seconds(10);
  if (now - drawn_ < pause) return;
  drawn_ = now;
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const double left = fraction > 0 ? elapsed / fraction - elapsed : 0;
  if (!tty_) {
    fmt::print(stderr, "{:3.0f}% {} ({:.0f} s left)\n", fraction * 100, text, left);
    return;
  }
  constexpr int kWidth = 30;
  const int filled = std::clamp(static_cast<int>(fraction * kWidth), 0, kWidth);
  fmt::print(stderr, "\r[{}{}] {:3.0f}% {} {:.0f} s left \x1b[K", std::string(filled, '='),
             std::string(kWidth - filled, ' '), fraction * 100, text, left);
  std::fflush(stderr);
}

void ProgressBar::Finish(const std::string& text) {
  fmt::print(stderr, "{}{}{}\n", tty_ ? "\r" : "", text, tty_ ? "\x1b[K" : "");
}

}  // namespace minim
