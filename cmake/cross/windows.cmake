# For a build of the core for Windows on another system, by cmake/cross/clang++.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR AMD64)
set(CMAKE_CXX_COMPILER "${CMAKE_CURRENT_LIST_DIR}/clang++")
set(CMAKE_CXX_COMPILER_TARGET x86_64-windows-gnu)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)  # zig makes its C++ library anew for the flags of every link
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_MODULE_LINKER_FLAGS_INIT "-s")
