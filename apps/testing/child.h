// The minim binary as a child process, for tests.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace minim {

/// Its output, of both kinds, is read line by line.
class Child {
 public:
  explicit Child(std::vector<std::string> arguments) {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], 1);
      ::dup2(ends[1], 2);
      ::close(ends[0]);
      arguments.insert(arguments.begin(), MINIM_BINARY);
      std::vector<char*> argv;
      for (std::string& argument : arguments) argv.push_back(argument.data());
      argv.push_back(nullptr);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    out_ = ::fdopen(ends[0], "r");
  }
  ~Child() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    if (out_ != nullptr) std::fclose(out_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// The first line that holds `text`; empty at the end.
  std::string LineWith(const std::string& text) {
    char line[4096];
    while (std::fgets(line, sizeof(line), out_) != nullptr)
      if (std::string_view(line).find(text) != std::string_view::npos) return line;
    return "";
  }
  /// All that is left of it.
  std::string Rest() {
    std::string text;
    char line[4096];
    while (std::fgets(line, sizeof(line), out_) != nullptr) text += line;
    return text;
  }
  void Signal(int signal) { ::kill(pid_, signal); }
  int ExitCode() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_ = -1;
  FILE* out_ = nullptr;
};

}  // namespace minim
