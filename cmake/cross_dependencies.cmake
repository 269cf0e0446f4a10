# What a cross build needs of other libraries, from the building machine's packages: headers that are the same on every architecture.
# fmt, spdlog and GoogleTest are compiled for the target. The parsers behind model/ have no such form: those modules compile but do not
# link. A native build takes everything from packages (dependencies.cmake).
find_package(Threads REQUIRED)

# donar_headers(target header): an imported target that is a folder of headers.
function(donar_headers target header)
  string(MAKE_C_IDENTIFIER "DONAR_${header}" found)
  find_path(${found} ${header} PATHS /usr/include REQUIRED)
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  # /usr/include itself must stay where the compiler has it, behind the C++ library's own headers.
  if(NOT ${found} STREQUAL "/usr/include")
    target_include_directories(${target} INTERFACE ${${found}})
  endif()
endfunction()

donar_headers(Boost::headers boost/json/src.hpp)
donar_headers(tl::expected tl/expected.hpp)
donar_headers(fmt::fmt fmt/format.h)
target_compile_definitions(fmt::fmt INTERFACE FMT_HEADER_ONLY)
donar_headers(spdlog::spdlog spdlog/spdlog.h)
target_compile_definitions(spdlog::spdlog INTERFACE SPDLOG_FMT_EXTERNAL)
target_link_libraries(spdlog::spdlog INTERFACE fmt::fmt)
donar_headers(simdjson::simdjson simdjson.h)
donar_headers(CLI11::CLI11 CLI/CLI.hpp)

if(DONAR_TESTS)
  find_path(DONAR_GOOGLETEST googletest/CMakeLists.txt PATHS /usr/src/googletest NO_DEFAULT_PATH REQUIRED)
  set(INSTALL_GTEST OFF)
  add_subdirectory(${DONAR_GOOGLETEST} ${CMAKE_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)
  if(NOT TARGET GTest::gmock_main)
    add_library(GTest::gmock_main ALIAS gmock_main)
  endif()
endif()
