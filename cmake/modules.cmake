# donar_module(name SOURCES ... DEPS ...): static library donar_<name>, the folder src/<name>.
# Includes are rooted at src/ and reach only what DEPS lists, so that a wrong dependency does not link.
add_library(donar_options INTERFACE)
target_include_directories(donar_options INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_BINARY_DIR}/generated)
target_compile_options(donar_options INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Wall -Wextra -Wpedantic -Wno-missing-field-initializers>)
# A product and a sum are fused only where the code says so. Compilers do it by themselves where every CPU of the architecture can, as
# on aarch64 and not on x86: a seeded text would differ between the two, and a value between a loop's vectors and its last elements.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  target_compile_options(donar_options INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-ffp-contract=off>)
endif()
# The one build flag that code sees: kCuda in tensor/cuda.h.
target_compile_definitions(donar_options INTERFACE DONAR_CUDA=$<BOOL:${DONAR_HAS_CUDA}>)
# Warnings are errors with the compiler of CI; a newer one's new warnings must not keep a user from building, and the
# instrumented code of sanitizers confuses the warnings that follow values.
if(NOT DONAR_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # -Wrestrict: false alarms on `"text" + string` in g++ 12 (gcc.gnu.org/PR105651).
  target_compile_options(donar_options INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Werror -Wno-restrict>)
endif()
if(DONAR_SANITIZE)
  add_compile_options(-fsanitize=${DONAR_SANITIZE} -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${DONAR_SANITIZE})
endif()
if(DONAR_FUZZ)
  add_compile_options(-fsanitize=address,fuzzer-no-link -g)
  add_link_options(-fsanitize=address)
endif()

function(donar_module name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_library(donar_${name} STATIC ${arg_SOURCES})
  target_link_libraries(donar_${name} PUBLIC donar_options ${arg_DEPS})
endfunction()

# donar_test(path SOURCES ... DEPS ...): one GoogleTest binary per folder of tests/, registered as one ctest case. They run in the
# source folder, so that a relative DONAR_TEST_DATA gives binaries that another machine can run in a folder of its own.
set(DONAR_TEST_DATA ${CMAKE_SOURCE_DIR}/tests/data CACHE STRING "Where test binaries find tests/data")
function(donar_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name}_test ${arg_SOURCES})
  target_include_directories(${name}_test PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name}_test PRIVATE donar_options ${arg_DEPS} GTest::gmock_main)
  target_compile_definitions(${name}_test PRIVATE DONAR_TEST_DATA="${DONAR_TEST_DATA}")
  add_test(NAME ${name} COMMAND ${name}_test WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
endfunction()
