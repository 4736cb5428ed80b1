# For a build of the core on another machine than a 64-bit Arm: Debian's cross compiler of the version whose headers and
# libraries sysroot.sh brings, so that older systems can load what it links.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++-12)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
get_filename_component(CMAKE_SYSROOT "${CMAKE_CURRENT_LIST_DIR}/../../build/aarch64/sysroot" ABSOLUTE)
execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=include OUTPUT_VARIABLE intrinsics
                OUTPUT_STRIP_TRAILING_WHITESPACE)
set(usr "${CMAKE_SYSROOT}/usr")
# Every 64-bit Arm has this much, NEON included.
set(CMAKE_CXX_FLAGS_INIT "-march=armv8-a -nostdinc")
foreach(folder "${usr}/include/c++/12" "${usr}/include/aarch64-linux-gnu/c++/12" "${intrinsics}"
               "${usr}/include/aarch64-linux-gnu" "${usr}/include")
  string(APPEND CMAKE_CXX_FLAGS_INIT " -isystem ${folder}")
endforeach()
set(CMAKE_MODULE_LINKER_FLAGS_INIT "-L${usr}/lib/gcc/aarch64-linux-gnu/12 -s")
