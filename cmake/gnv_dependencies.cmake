# Finds every library the project needs and, if some are missing, names all of them in one message.
find_package(PkgConfig QUIET)
find_package(Threads REQUIRED)

set(GNV_DEPENDENCIES Threads::Threads)
set(gnv_missing "")

# gnv_need(<pkg-config name> <Debian package> [<imported target variable>])
function(gnv_need module package)
    if(PkgConfig_FOUND)
        pkg_check_modules(GNV_${module} QUIET IMPORTED_TARGET GLOBAL ${module})
    endif()
    if(GNV_${module}_FOUND)
        set(GNV_DEPENDENCIES ${GNV_DEPENDENCIES} PkgConfig::GNV_${module} PARENT_SCOPE)
    else()
        set(gnv_missing ${gnv_missing} ${package} PARENT_SCOPE)
    endif()
endfunction()

if(NOT PkgConfig_FOUND)
    list(APPEND gnv_missing pkg-config)
endif()
gnv_need(simdjson libsimdjson-dev)
gnv_need(libzstd libzstd-dev)
gnv_need(libpcre2-8 libpcre2-dev)
gnv_need(libutf8proc libutf8proc-dev)
gnv_need(libcrypto libssl-dev)

# Header-only libraries.
function(gnv_need_header header package)
    find_path(GNV_INCLUDE_${package} ${header})
    mark_as_advanced(GNV_INCLUDE_${package})
    if(NOT GNV_INCLUDE_${package})
        set(gnv_missing ${gnv_missing} ${package} PARENT_SCOPE)
    endif()
endfunction()
gnv_need_header(nlohmann/json.hpp nlohmann-json3-dev)
if(GNV_BUILD_TOOLS OR GNV_BUILD_TESTS)
    gnv_need_header(CLI/CLI.hpp libcli11-dev)
endif()
if(GNV_BUILD_TESTS)
    gnv_need_header(doctest/doctest.h doctest-dev)
endif()

if(gnv_missing)
    list(JOIN gnv_missing " " gnv_missing_text)
    message(FATAL_ERROR
        "These libraries are missing (Debian and Ubuntu package names): ${gnv_missing_text}\n"
        "On Debian or Ubuntu:  apt-get install ${gnv_missing_text}\n"
        "Elsewhere install the packages of the same libraries, with headers, and run this again.")
endif()
