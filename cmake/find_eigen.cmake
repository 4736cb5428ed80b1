# Finds Eigen 3.4 or 5 and defines Eigen3::Eigen.
#
# The headers of the PyPI package cmeel-eigen, pip's build requirement, go before a system's older ones; they lie
# in a folder of their own below site-packages, which find_package does not look into unless told.
set(roots "")
foreach(prefix IN LISTS CMAKE_PREFIX_PATH)
  list(APPEND roots "${prefix}/cmeel.prefix")
endforeach()
find_package(Eigen3 3.4 CONFIG QUIET PATHS ${roots} NO_DEFAULT_PATH)

# One version at a time: Eigen 3.4.0 refuses a range, and a request for 3.4 refuses 5.
foreach(version_wanted IN ITEMS 5 3.4)
  if(NOT Eigen3_FOUND)
    find_package(Eigen3 ${version_wanted} CONFIG QUIET)
  endif()
endforeach()

if(NOT Eigen3_FOUND)
  message(FATAL_ERROR "cnnlib needs the headers of Eigen 3.4 or 5, found neither: pip's isolated build brings them; "
                      "otherwise `pip install cmeel-eigen`, or Debian's libeigen3-dev, or pass -DEigen3_DIR=...")
endif()
message(STATUS "Eigen ${Eigen3_VERSION} in ${Eigen3_DIR}")
