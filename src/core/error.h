// How our own code makes and passes on errors: fmt-style factories, MINIM_TRY, MINIM_CHECK.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "minim/status.h"

namespace minim {

#define MINIM_ERROR_FACTORY(name)                                                         \
  template <typename... Args>                                                             \
  Status name(fmt::format_string<Args...> format, Args&&... args) {                       \
    return Status(StatusCode::k##name, fmt::format(format, std::forward<Args>(args)...)); \
  }
MINIM_ERROR_FACTORY(InvalidArgument)
MINIM_ERROR_FACTORY(NotFound)
MINIM_ERROR_FACTORY(Unsupported)
MINIM_ERROR_FACTORY(DataLoss)
MINIM_ERROR_FACTORY(ResourceExhausted)
MINIM_ERROR_FACTORY(DeadlineExceeded)
MINIM_ERROR_FACTORY(Unavailable)
MINIM_ERROR_FACTORY(Cancelled)
MINIM_ERROR_FACTORY(Internal)
#undef MINIM_ERROR_FACTORY

/// The same status with "where: " put before its message; ok stays ok.
Status Annotate(Status status, std::string_view where);

/// Prints the broken condition and aborts. Only our own bugs may reach it.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition);

}  // namespace minim

#define MINIM_CHECK(condition) \
  ((condition) ? void() : ::minim::CheckFailed(__FILE__, __LINE__, #condition))

// MINIM_TRY(expr): returns expr's status from this function unless ok.
// MINIM_TRY(decl, expr): likewise, else initialises decl with the value.
#define MINIM_TRY(...) \
  MINIM_TRY_PICK_(__VA_ARGS__, MINIM_TRY_VALUE_, MINIM_TRY_STATUS_)(__VA_ARGS__)
#define MINIM_TRY_PICK_(a, b, name, ...) name
#define MINIM_TRY_STATUS_(expr) \
  if (auto minim_try = (expr); !minim_try.ok()) return std::move(minim_try).status()
#define MINIM_TRY_VALUE_(decl, expr) MINIM_TRY_NAMED_(decl, expr, MINIM_CAT_(minim_try_, __LINE__))
#define MINIM_TRY_NAMED_(decl, expr, name)         \
  auto name = (expr);                              \
  if (!name.ok()) return std::move(name).status(); \
  decl = std::move(name).value()
#define MINIM_CAT_(a, b) MINIM_CAT2_(a, b)
#define MINIM_CAT2_(a, b) a##b
