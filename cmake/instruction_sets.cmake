# Sets `isas`, the instruction sets to compile the kernels for, from CNNLIB_ISAS, and `isas_left_out`, the others.
include(CheckCXXSourceCompiles)
check_cxx_source_compiles("#ifndef __x86_64__\n#error\n#endif\nint main() {}" CNNLIB_X86_64)

# Debug and sanitizer builds keep inline functions of the standard library as weak symbols, which several
# instruction sets in one module must not share (cmake/check_symbols.cmake): they get one set, by default the baseline.
if(CMAKE_BUILD_TYPE STREQUAL "Debug" OR CNNLIB_SANITIZE)
  set(default_isas base)
else()
  set(default_isas native)
endif()
set(CNNLIB_ISAS "${default_isas}" CACHE STRING "Instruction sets to compile the kernels for: all; native, those of \
this processor; widest, the best of these alone; or a list of base, avx2, avx512")

set(all_isas base)
if(CNNLIB_X86_64)
  list(APPEND all_isas avx2 avx512)
endif()
if(CNNLIB_ISAS MATCHES "^(all|native|widest)$")
  set(isas ${all_isas})
  # A cross compiler's programs do not run here.
  if(CNNLIB_X86_64 AND NOT CNNLIB_ISAS STREQUAL "all" AND NOT CMAKE_CROSSCOMPILING)
    try_run(CNNLIB_OWN_SETS_EXIT compiled "${CMAKE_CURRENT_BINARY_DIR}/own_sets"
            "${CMAKE_CURRENT_LIST_DIR}/own_sets.cpp" CXX_STANDARD 17 RUN_OUTPUT_VARIABLE printed
            COMPILE_OUTPUT_VARIABLE errors)
    if(NOT compiled OR NOT CNNLIB_OWN_SETS_EXIT EQUAL 0)
      message(FATAL_ERROR "CNNLIB_ISAS=${CNNLIB_ISAS}: cannot tell what this processor runs; give CNNLIB_ISAS=all, or "
                          "a list of ${all_isas}\n${errors}")
    endif()
    set(CNNLIB_OWN_SETS "${printed}" CACHE INTERNAL "Instruction sets of this processor")
    set(isas ${CNNLIB_OWN_SETS})
  endif()
  if(CNNLIB_ISAS STREQUAL "widest" AND NOT CMAKE_CROSSCOMPILING)
    list(GET isas -1 isas)
  endif()
else()
  set(isas ${CNNLIB_ISAS})
endif()

foreach(isa IN LISTS isas)
  if(NOT isa MATCHES "^(base|avx2|avx512)$")
    message(FATAL_ERROR "CNNLIB_ISAS: unknown instruction set '${isa}' (known: base, avx2, avx512, or one of all, "
                        "native, widest)")
  endif()
endforeach()
if(NOT "base" IN_LIST isas AND NOT CNNLIB_SANITIZE AND NOT CNNLIB_ISAS STREQUAL "widest")
  message(FATAL_ERROR "CNNLIB_ISAS is '${CNNLIB_ISAS}', but must contain 'base': every machine falls back on it")
endif()
list(LENGTH isas isa_count)
if(isa_count GREATER 1 AND CNNLIB_SANITIZE)
  message(FATAL_ERROR "CNNLIB_ISAS is '${CNNLIB_ISAS}', but a build with sanitizers can hold one set alone")
endif()
set(isas_left_out ${all_isas})
list(REMOVE_ITEM isas_left_out ${isas})
if(isas_left_out)
  message(STATUS "cnnlib: kernels for ${isas}; left out: ${isas_left_out} (CNNLIB_ISAS=all compiles every set)")
else()
  message(STATUS "cnnlib: kernels for ${isas}")
endif()
