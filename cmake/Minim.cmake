# Build rules shared by every folder.
include(GNUInstallDirs)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(GTest REQUIRED)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

find_program(MINIM_CCACHE ccache)
if(MINIM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # It keeps what is compiled with a precompiled header only where it is told that this is fine.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
    ${MINIM_CCACHE})
endif()

add_library(minim_options INTERFACE)
# No contraction: a*b+c must not change between instruction sets.
target_compile_options(minim_options INTERFACE -ffp-contract=off)
set(MINIM_WARNINGS -Wall -Wextra -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  # False alarms of GCC 12 on std::string and std::optional (PR 105651, 105562).
  list(APPEND MINIM_WARNINGS -Wno-restrict -Wno-maybe-uninitialized)
endif()
if(MINIM_WERROR)
  list(APPEND MINIM_WARNINGS -Werror)
endif()
if(MINIM_SANITIZE)
  add_compile_options(-fsanitize=${MINIM_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -O1 -g1)
  add_link_options(-fsanitize=${MINIM_SANITIZE})
endif()
if(MINIM_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
  add_link_options(-fsanitize=fuzzer-no-link)
endif()

# minim_library(NAME SOURCES a.cc b.cc [DEPS targets] [TESTED_ELSEWHERE b.cc] [TEST_DEPS targets]
#               [EXTRA_TESTS x_test.cc] [NOT_INSTALLED])
# One static library minim_NAME and one test binary minim_NAME_test. Every source has a test beside
# it (a.cc, a_test.cc) or is named in TESTED_ELSEWHERE.
function(minim_library name)
  cmake_parse_arguments(arg "NOT_INSTALLED" "" "SOURCES;DEPS;TESTED_ELSEWHERE;TEST_DEPS;EXTRA_TESTS" ${ARGN})
  set(target minim_${name})
  add_library(${target} STATIC ${arg_SOURCES})
  add_library(minim::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
    PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_compile_options(${target} PRIVATE ${MINIM_WARNINGS})
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:minim_options> PUBLIC ${arg_DEPS})
  if(name IN_LIST MINIM_COVERAGE)
    minim_count_lines(${target})
    target_link_options(${target} INTERFACE --coverage)
  endif()
  if(NOT arg_NOT_INSTALLED)
    install(TARGETS ${target} EXPORT minim-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  endif()
  set(tests ${arg_EXTRA_TESTS})
  foreach(source ${arg_SOURCES})
    string(REGEX REPLACE "\\.cc$" "_test.cc" test ${source})
    if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${test})
      list(APPEND tests ${test})
    elseif(NOT source IN_LIST arg_TESTED_ELSEWHERE)
      message(FATAL_ERROR "${CMAKE_CURRENT_SOURCE_DIR}/${source} has no test: write ${test}")
    endif()
  endforeach()
  if(tests)
    minim_test(${target}_test SOURCES ${tests} DEPS ${target} ${arg_TEST_DEPS})
    if(name IN_LIST MINIM_COVERAGE)
      minim_count_lines(${target}_test)  # the linker may take a header's function from here
    endif()
  endif()
endfunction()

# -O1, so that lines are not merged; counters that threads share without losing any.
function(minim_count_lines target)
  target_compile_options(${target} PRIVATE --coverage -O1 -fprofile-update=atomic)
endfunction()

# For what reads no bytes from outside: a fifth of the time to compile. A null that is dereferenced
# stops a program anyway.
function(minim_trust_pointers target)
  if(MINIM_SANITIZE MATCHES undefined)
    target_compile_options(${target} PRIVATE -fno-sanitize=null,alignment)
  endif()
endfunction()

# For tests, the command line and what seldom runs in loops of its own: half the time to compile.
function(minim_sanitize_less target)
  minim_trust_pointers(${target})
  if(MINIM_SANITIZE)
    target_compile_options(${target} PRIVATE -O0)
  endif()
endfunction()

# minim_test(NAME SOURCES x_test.cc [DEPS targets]): a GoogleTest binary and a ctest entry.
function(minim_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR})
  target_compile_options(${name} PRIVATE ${MINIM_WARNINGS})
  minim_sanitize_less(${name})
  target_precompile_headers(${name} PRIVATE <gtest/gtest.h>)
  target_link_libraries(${name} PRIVATE minim_options ${arg_DEPS} GTest::gtest_main GTest::gmock)
  add_test(NAME ${name} COMMAND ${name})
  # Kernels by cost models, whatever was measured here.
  set_tests_properties(${name} PROPERTIES ENVIRONMENT MINIM_TUNING=off)
endfunction()
