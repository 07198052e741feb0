# How every library, program and test of the project is built: one function each.

add_library(vernier_options INTERFACE)
target_include_directories(vernier_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(vernier_options INTERFACE
  -Wall -Wextra -Werror -Wvla -Walloca -Wshadow -Wno-missing-field-initializers
  -fstack-protector-strong -fno-math-errno -ffp-contract=off
  # Debian's Abseil headers warn about themselves under -Wextra with GCC 12.
  -Wno-unused-parameter)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(vernier_options INTERFACE -Wthread-safety)
endif()
if(VERNIER_SANITIZE)
  target_compile_options(vernier_options INTERFACE
    -fsanitize=${VERNIER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
    # GCC 12 takes what its sanitizers insert for reads of uninitialized memory.
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_options(vernier_options INTERFACE -fsanitize=${VERNIER_SANITIZE})
endif()
target_link_options(vernier_options INTERFACE -Wl,-z,relro,-z,now)
target_link_libraries(vernier_options INTERFACE Threads::Threads)

# vernier_fuzzed(): what this folder and those below it compile tells libFuzzer which way it went. Not for all: counting
# makes the tests of the kernels ten times as slow.
macro(vernier_fuzzed)
  if(VERNIER_BUILD_FUZZ)
    add_compile_options(-fsanitize=fuzzer-no-link)
  endif()
endmacro()

# vernier_library(NAME SOURCES... DEPS...): a static library, one a folder.
function(vernier_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC vernier_options ${arg_DEPS})
endfunction()

# vernier_program(NAME SOURCES... DEPS...): an executable in bin/.
function(vernier_program name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE vernier_options ${arg_DEPS})
endfunction()

# vernier_test(NAME SOURCES... DEPS... [LABELS...] [TIMEOUT seconds] [SHARDS n] [THREADED FILTER]): one
# GoogleTest binary a folder, run by ctest as one test, or under a sanitizer as n. ThreadSanitizer runs
# the cases of FILTER alone where there is one: what one thread does costs ten times as much there and
# shows nothing. Tests find their data through VERNIER_TEST_DATA and, where it is there, the larger sets
# through VERNIER_SHARED_DATA.
function(vernier_test name)
  cmake_parse_arguments(arg "" "TIMEOUT;SHARDS;THREADED" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 900)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE vernier_options ${arg_DEPS} GTest::gtest GTest::gmock GTest::gtest_main)
  set(environment "VERNIER_TEST_DATA=${CMAKE_SOURCE_DIR}/tests/data;VERNIER_SHARED_DATA=${CMAKE_SOURCE_DIR}/../shared/data;VERNIER_BIN=${CMAKE_BINARY_DIR}/bin;VERNIER_MODELS=${CMAKE_SOURCE_DIR}/models")
  if(arg_THREADED AND VERNIER_SANITIZE STREQUAL "thread")
    list(APPEND environment "GTEST_FILTER=${arg_THREADED}")
  endif()
  set(shards 1)
  if(arg_SHARDS AND VERNIER_SANITIZE)
    set(shards ${arg_SHARDS})
  endif()
  foreach(shard RANGE 1 ${shards})
    set(test ${name})
    if(shards GREATER 1)
      set(test ${name}_${shard})
    endif()
    math(EXPR index "${shard} - 1")
    add_test(NAME ${test} COMMAND ${name})
    set_tests_properties(${test} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}"
      ENVIRONMENT "${environment};GTEST_TOTAL_SHARDS=${shards};GTEST_SHARD_INDEX=${index}")
  endforeach()
endfunction()
