// The programs as functions: ggml-nvfp4.cpp has all of them in one program, single.cpp makes a program of one.
#pragma once

#include <string>

namespace tools {

// Each takes the words as main() does and returns the exit status.
int run_dataset(int argc, char ** argv);
int run_inspect(int argc, char ** argv);
int run_quantize(int argc, char ** argv);
int run_run(int argc, char ** argv);
int run_tokenize(int argc, char ** argv);
int run_verify(int argc, char ** argv);

// As the program was called: "quantize", "ggml-nvfp4 quantize". Set before one of them runs.
inline std::string program_name;

// Another of the programs, called in the same way: "verify", "ggml-nvfp4 verify", "ggml-nvfp4-verify".
inline std::string program_beside(const std::string & name) {
    return program_name.substr(0, program_name.find_last_of(" -") + 1) + name; // npos + 1 is 0
}

// What the build put in, for --version; written by cmake/build_info.cmake.
extern const char * const build_commit; // "3b459fd", "3b459fd-dirty"; "" where it is not known
extern const char * const build_parts;  // a line each: CUDA, compiler, libraries

} // namespace tools
