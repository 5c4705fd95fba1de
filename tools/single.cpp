// One of the programs alone, as build/bin has it: GNV_PROGRAM is its name.
#include "common/programs.h"

#define GNV_JOIN(a, b)         a##b
#define GNV_ENTRY(name)        GNV_JOIN(run_, name)
#define GNV_QUOTE(text)        #text
#define GNV_PROGRAM_NAME(name) GNV_QUOTE(name)

int main(int argc, char ** argv) {
    tools::program_name = GNV_PROGRAM_NAME(GNV_PROGRAM);
    return tools::GNV_ENTRY(GNV_PROGRAM)(argc, argv);
}
