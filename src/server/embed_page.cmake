# donar_embed_page(DIST OUTPUT): makes OUTPUT, a .cpp with every file of DIST as gzip bytes. Without DIST the list is empty.
# The same file is the script that does the work at build time.
if(NOT CMAKE_SCRIPT_MODE_FILE)
  set(DONAR_EMBED_SCRIPT ${CMAKE_CURRENT_LIST_FILE})
  function(donar_embed_page dist output)
    # A glob that is looked at again before every build, so that a rebuilt page is embedded again.
    file(GLOB_RECURSE files CONFIGURE_DEPENDS ${dist}/*)
    list(FILTER files EXCLUDE REGEX "\\.gz$")
    add_custom_command(
      OUTPUT ${output}
      COMMAND ${CMAKE_COMMAND} -D DIST=${dist} -D OUTPUT=${output} -P ${DONAR_EMBED_SCRIPT}
      DEPENDS ${files} ${DONAR_EMBED_SCRIPT}
      COMMENT "Embedding the chat page")
  endfunction()
  return()
endif()

get_filename_component(work ${OUTPUT} DIRECTORY)
file(MAKE_DIRECTORY ${work})
file(GLOB_RECURSE files RELATIVE ${DIST} ${DIST}/*)
list(FILTER files EXCLUDE REGEX "\\.gz$")
list(SORT files)
set(arrays "")
set(rows "")
set(index 0)
foreach(file ${files})
  set(packed ${work}/page_asset.gz)
  # -n: no name and no date inside, so that the bytes are the same from build to build.
  execute_process(
    COMMAND gzip -9 -n -c ${DIST}/${file}
    OUTPUT_FILE ${packed} RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "gzip ${DIST}/${file}: ${failed}")
  endif()
  file(SIZE ${DIST}/${file} plain_bytes)
  file(SHA256 ${DIST}/${file} hash)
  string(SUBSTRING ${hash} 0 16 etag)
  file(READ ${packed} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
  string(APPEND arrays "constexpr unsigned char kAsset${index}[] = {\n${bytes}};\n")
  string(APPEND rows "    {\"/${file}\", kAsset${index}, sizeof(kAsset${index}), ${plain_bytes}, \"${etag}\"},\n")
  math(EXPR index "${index} + 1")
endforeach()
file(REMOVE ${work}/page_asset.gz)
if(index EQUAL 0)
  set(body "std::span<const PageAsset> page_assets() { return {}; }\n")
else()
  set(body "namespace {\n${arrays}constexpr PageAsset kAssets[] = {\n${rows}};\n}  // namespace\nstd::span<const PageAsset> page_assets() { return kAssets; }\n")
endif()
file(WRITE ${OUTPUT} "// Made by embed_page.cmake from web/dist.\n#include \"server/page.h\"\n\nnamespace donar::server {\n${body}}  // namespace donar::server\n")
