# cmake -DSOURCE=tree -DCOMMIT=... -DPARTS=... -DTO=build_info.cpp -P build_info.cmake
# Writes what --version says about the build (tools/common/programs.h); the file keeps its time where nothing changed.
if(NOT COMMIT AND EXISTS ${SOURCE}/.git) # a copy inside another repository has not its commit
    execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --exclude=* OUTPUT_VARIABLE COMMIT
        OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
    if(failed)
        set(COMMIT "")
    endif()
endif()
file(CONFIGURE OUTPUT ${TO} @ONLY CONTENT [[
#include "common/programs.h"

const char * const tools::build_commit = "@COMMIT@";
const char * const tools::build_parts = "@PARTS@";
]])
