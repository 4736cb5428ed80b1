# cmake -DNM=nm -P check_symbols.cmake -- SET=OBJECT...
#
# The linker keeps one copy of a function that several object files define, whatever instruction set it was
# compiled for. Were a copy with AVX-512 code kept, the module would crash on a machine without; were the
# baseline's kept, the fast sets would run slowly. So each external symbol of a kernel object must name that
# set's own namespace, cnnlib::<set> or Eigen_<set>, and nothing may run when the module is loaded.
cmake_minimum_required(VERSION 3.22...4.2)

# Defined by the compilers themselves and the same in every set: a pointer to the language's exception handler, and
# clang's call of std::terminate, which touches no vector register. Data without instructions: the type information
# of the core's plans, which clang for Windows puts into each object file that derives from them, and the address of
# their virtual table, by which it reaches what may lie in another library.
set(harmless "^(DW\\.ref\\.__gxx_personality_v0|__clang_call_terminate|(_ZT[IS]|\\.refptr\\._ZTV)N6cnnlib[0-9A-Za-z]+E)$")

set(problems "")
math(EXPR last "${CMAKE_ARGC} - 1")
set(arguments_begin FALSE)
foreach(i RANGE ${last})
  set(argument "${CMAKE_ARGV${i}}")
  if(NOT arguments_begin)
    if(argument STREQUAL "--")
      set(arguments_begin TRUE)
    endif()
    continue()
  endif()

  string(REGEX MATCH "^([a-z0-9]+)=(.+)$" matched "${argument}")
  set(isa "${CMAKE_MATCH_1}")
  set(object "${CMAKE_MATCH_2}")
  execute_process(
    COMMAND "${NM}" --defined-only "${object}"
    OUTPUT_VARIABLE table
    RESULT_VARIABLE failed
    ERROR_VARIABLE reason)
  if(NOT matched OR failed)
    message(FATAL_ERROR "check_symbols: cannot read '${argument}': ${reason}")
  endif()

  # In a mangled name each part follows its length; a namespace met before is a substitution, S_ or S<digits>_.
  string(LENGTH "${isa}" isa_length)
  string(LENGTH "Eigen_${isa}" eigen_length)
  set(own "((6cnnlib|S[0-9A-Z]*_)${isa_length}${isa}|${eigen_length}Eigen_${isa})")

  string(REPLACE "\n" ";" lines "${table}")
  foreach(line IN LISTS lines)
    if(NOT line MATCHES "^[0-9a-fA-F]+ ([A-Za-z]) (.+)$")
      continue()
    endif()
    set(type "${CMAKE_MATCH_1}")
    set(symbol "${CMAKE_MATCH_2}")
    if(symbol MATCHES "^_GLOBAL__(sub_)?I_")
      list(APPEND problems "${isa}: ${symbol} (a constructor that runs when the module is loaded)")
    elseif(type MATCHES "[A-Zuvw]" AND NOT symbol MATCHES "${harmless}")
      if(NOT symbol MATCHES "${own}")
        list(APPEND problems "${isa}: ${symbol} (names neither cnnlib::${isa} nor Eigen_${isa})")
      endif()
    endif()
  endforeach()
endforeach()

if(problems)
  list(JOIN problems "\n  " text)
  message(FATAL_ERROR "The kernel objects define symbols that the linker would merge across instruction sets, or "
                      "run too early. Kernels use no containers, streams or other templates of the standard "
                      "library that are not inlined. Symbols (c++filt explains them):\n  ${text}")
endif()
