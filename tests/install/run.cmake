# cmake -DBUILD=<build folder> -DROOT=<source tree> -DSOURCE=<this folder> -DEXAMPLES=<folder> -DCXX=... -P run.cmake
# Installs the build into a scratch prefix, then builds and runs programs against it, the examples too: with the CMake
# package, and with pkg-config alone.
set(scratch ${BUILD}/tests/install)
set(prefix ${scratch}/prefix)
file(REMOVE_RECURSE ${scratch})
function(run)
    execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
run(${CMAKE_COMMAND} -S ${SOURCE} -B ${scratch}/build -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_CXX_COMPILER=${CXX})
run(${CMAKE_COMMAND} --build ${scratch}/build)
run(${scratch}/build/consumer_c)
run(${scratch}/build/consumer_cpp)

run(${CMAKE_COMMAND} -S ${SOURCE}/c -B ${scratch}/c -DCMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${scratch}/c)
run(${scratch}/c/consumer)

run(${CMAKE_COMMAND} -S ${EXAMPLES} -B ${scratch}/examples -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_CXX_COMPILER=${CXX}
    -DGNV_EXAMPLE_SERVER=OFF) # which takes a minute to compile, and is tested as it is in the tree
run(${CMAKE_COMMAND} --build ${scratch}/examples)
run(${scratch}/examples/example_quantize ${BUILD}/data/qwen36-tiny ${scratch}/quantized)
run(${scratch}/examples/example_codec ${BUILD}/data/qwen36-tiny lm_head.weight)

file(GLOB_RECURSE pc ${prefix}/*/ggml-nvfp4.pc)
get_filename_component(pc_folder ${pc} DIRECTORY)
get_filename_component(library_folder ${pc_folder} DIRECTORY)
execute_process(COMMAND ${CMAKE_COMMAND} -E env PKG_CONFIG_PATH=${pc_folder} pkg-config --cflags --libs ggml-nvfp4
    OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
if(flags MATCHES "-D|UTF8PROC|SIMDJSON_")
    message(FATAL_ERROR "pkg-config hands on compile flags of libraries that users do not see: ${flags}")
endif()
separate_arguments(flags UNIX_COMMAND "${flags}")
run(cc -std=c99 ${SOURCE}/main.c -o ${scratch}/with_pkg_config ${flags} -Wl,-rpath,${library_folder})
run(${scratch}/with_pkg_config)

# One program and links to it; nothing has a name that is too common for /usr/bin.
file(GLOB programs RELATIVE ${prefix}/bin ${prefix}/bin/*)
foreach(program ${programs})
    if(NOT program MATCHES "^ggml-nvfp4(-[a-z]+)?$")
        message(FATAL_ERROR "${program} is installed as a program")
    endif()
    run(${prefix}/bin/${program} --version)
endforeach()
execute_process(COMMAND ${prefix}/bin/ggml-nvfp4-verify --help OUTPUT_VARIABLE help COMMAND_ERROR_IS_FATAL ANY)
if(NOT help MATCHES "Usage: ggml-nvfp4-verify ")
    message(FATAL_ERROR "a link is not called by its name: ${help}")
endif()

file(GLOB_RECURSE license ${prefix}/share/*/LICENSE)
if(NOT license)
    message(FATAL_ERROR "the licence is not installed")
endif()
# A program of version 0.1 must not load a library of version 0.2.
file(GLOB shared ${library_folder}/libggml-nvfp4.so)
if(shared)
    find_program(readelf readelf REQUIRED)
    execute_process(COMMAND ${readelf} -d ${shared} OUTPUT_VARIABLE dynamic COMMAND_ERROR_IS_FATAL ANY)
    if(NOT dynamic MATCHES "SONAME[^[]*\\[libggml-nvfp4\\.so\\.0\\.1\\]")
        message(FATAL_ERROR "the soname lacks the minor version: ${dynamic}")
    endif()
endif()

# Without its parts the library asks for four libraries, and so does who links it. (The test `edge` runs such a library.)
run(${CMAKE_COMMAND} -S ${ROOT} -B ${scratch}/edge -DCMAKE_CXX_COMPILER=${CXX} -DGNV_CUDA=OFF -DGNV_BUILD_TOOLS=OFF
    -DGNV_WITH_DATASETS=OFF -DGNV_WITH_IMAGES=OFF -DGNV_WITH_QUANTIZE=OFF -DGNV_WITH_VERIFY=OFF -DGNV_WITH_HUB=OFF)
file(STRINGS ${scratch}/edge/ggml-nvfp4.pc libraries REGEX "^Libs:")
if(NOT libraries MATCHES "-lcrypto -lutf8proc -lpcre2-8 -lsimdjson" OR libraries MATCHES "snappy|curl|zstd|png|jpeg|webp")
    message(FATAL_ERROR "a library without its parts asks for other libraries: ${libraries}")
endif()
execute_process(COMMAND ${CMAKE_COMMAND} -S ${ROOT} -B ${scratch}/tests_of_edge -DCMAKE_CXX_COMPILER=${CXX} -DGNV_CUDA=OFF
    -DGNV_WITH_VERIFY=OFF -DGNV_BUILD_TESTS=ON RESULT_VARIABLE failed ERROR_VARIABLE message OUTPUT_QUIET)
if(NOT failed OR NOT message MATCHES "the tests need every part")
    message(FATAL_ERROR "tests of a library without a part are not refused: ${message}")
endif()

# An nvcc that is too old is left out with a warning; who asks for CUDA gets an error.
file(WRITE ${scratch}/nvcc "#!/bin/sh\necho 'Cuda compilation tools, release 11.8, V11.8.89'\n")
file(CHMOD ${scratch}/nvcc PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
foreach(wanted AUTO ON)
    execute_process(COMMAND ${CMAKE_COMMAND} -S ${ROOT} -B ${scratch}/old_nvcc_${wanted} -DCMAKE_CXX_COMPILER=${CXX}
        -DCMAKE_CUDA_COMPILER=${scratch}/nvcc -DGNV_CUDA=${wanted} -DGNV_BUILD_TESTS=OFF
        RESULT_VARIABLE failed ERROR_VARIABLE message OUTPUT_VARIABLE output)
    string(REGEX REPLACE "[ \n]+" " " message "${message}")
    if(NOT message MATCHES "is of CUDA 11.8, 12.8 or later is needed")
        message(FATAL_ERROR "an old nvcc is not named: ${message}")
    endif()
    if((wanted STREQUAL "AUTO" AND (failed OR NOT output MATCHES "CUDA backend: OFF")) OR (wanted STREQUAL "ON" AND NOT failed))
        message(FATAL_ERROR "GNV_CUDA=${wanted} with an old nvcc: ${failed} ${output} ${message}")
    endif()
endforeach()
