// Folders and files that tests of the programs share: a small source of one file, its tokenizer, data, and a result.
#pragma once

#include "faults/small_model.h"
#include "programs/program.h"

namespace gnv::test {

class SmallRun {
  public:
    SmallRun() {
        GNV_CHECK(make_directory(source).ok());
        write_small_model_and_tokenizer(two_files, GNV_TEST_BINARY_DIR "/data/qwen36-tiny");
        save_tensors(source, load_tensors(two_files), 1);
        for (const char * name : {"config.json", "tokenizer.json", "tokenizer_config.json"})
            GNV_CHECK(copy_file_synced(join_path(two_files, name), join_path(source, name)).ok());
        scratch.save("tokens.json", R"({"input_ids":[[5,6,7,8,9,10,11],[100,200,300]]})");
        std::string lines;
        for (int i = 0; i < 8; i++) lines += "{\"text\": \"the function returns " + std::to_string(i) + "\"}\n";
        scratch.save("rows.jsonl", lines);
        const Ended ended = run_program(quantize(made, "nvfp4"));
        REQUIRE_MESSAGE(ended.exit_code == 0, ended.errors);
    }

    ScratchFolder scratch;
    std::string two_files = scratch / "two", source = scratch / "source", made = scratch / "made";
    std::string tokens = scratch / "tokens.json", rows = scratch / "rows.jsonl", nowhere = scratch / "nowhere/file";

    // A whole run to a new folder. scheme: "nvfp4", with calibration, or "nvfp4a16".
    Words quantize(const std::string & destination, const std::string & scheme) const {
        const Words command = {"quantize", source, "-o", destination, "--threads", "2", "--scheme", scheme};
        return scheme == "nvfp4" ? command + Words{"--tokens", tokens, "--device", "cpu"} : command;
    }
    Words verify(const std::string & checkpoint) const {
        return {"verify", checkpoint, "--source", source, "--threads", "2", "--device", "cpu"};
    }
    Words generate() const {
        return {"run", made, "--tokens", tokens, "--greedy", "--n-predict", "4", "--device", "cpu", "--threads", "2"};
    }
};

inline const SmallRun & small_run() {
    static const SmallRun run;
    return run;
}

// A JSON document as it is but for the time that it took.
inline std::string without_seconds(std::string text) {
    const size_t at = text.find("\"seconds\":");
    return at == std::string::npos ? text : text.erase(at, text.find('\n', at) - at);
}

// A path that is free again when the test ends.
class NewPath {
  public:
    explicit NewPath(std::string path) : path_(std::move(path)) {}
    ~NewPath() {
        for (const std::string & path : {path_, path_ + ".partial"})
            if (path_exists(path)) (void)remove_tree(path).ok();
    }
    NewPath(const NewPath &) = delete;
    NewPath & operator=(const NewPath &) = delete;
    operator const std::string &() const { return path_; }
    const std::string & text() const { return path_; }

  private:
    std::string path_;
};

} // namespace gnv::test
